"""BGE-EN-ICL (arXiv 2409.15700): few-shot examples of the task before the query; the state of the last token.

`from bge_icl import FlagICLModel` works as in FlagEmbedding; until then nothing heavy is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bge_icl.encoder import load as load
    from bge_icl.examples import read_examples as read_examples
    from bge_icl.face import FlagICLModel as FlagICLModel

_HOMES = {"FlagICLModel": "bge_icl.face", "load": "bge_icl.encoder", "read_examples": "bge_icl.examples"}
__all__ = ["FlagICLModel", "load", "read_examples"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bge_icl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
