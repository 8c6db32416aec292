"""LLM2Vec (arXiv 2404.05961): a causal LLM made bidirectional, adapted by masked next-token prediction, then SimCSE.

`from llm2vec import LLM2Vec` works as in the released package; until then nothing heavy is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm2vec.encoder import load as load
    from llm2vec.face import LLM2Vec as LLM2Vec

_HOMES = {"LLM2Vec": "llm2vec.face", "load": "llm2vec.encoder"}
__all__ = ["LLM2Vec", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llm2vec' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
