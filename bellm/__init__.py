"""BeLLM (arXiv 2311.05296): a causal LLM whose last layer is bidirectional.

`from bellm import BeLLM` works as the released `model.AnglE`; until then nothing heavy is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bellm.encoder import load as load
    from bellm.face import BeLLM as BeLLM

_HOMES = {"BeLLM": "bellm.face", "load": "bellm.encoder"}
__all__ = ["BeLLM", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bellm' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
