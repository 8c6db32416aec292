"""AnglE (arXiv 2309.12871): optimise the angle difference in complex space.

`from angle import AnglE, Prompts` works as in the released package; until then nothing heavy is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from angle.encoder import load as load
    from angle.face import AnglE as AnglE
    from angle.prompts import Prompts as Prompts

_HOMES = {"AnglE": "angle.face", "Prompts": "angle.prompts", "load": "angle.encoder"}
__all__ = ["AnglE", "Prompts", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'angle' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
