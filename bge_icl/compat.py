"""Quirks of the released BGE-ICL code that changed published numbers, each behind one switch, off by default.

None of inference so far: `FlagICLModel` gives the released token ids (see there), its other deviations are mended.
"""

from __future__ import annotations

COMPAT: dict[str, str] = {}
