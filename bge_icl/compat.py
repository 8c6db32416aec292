"""Quirks of the released BGE-ICL code that changed published numbers, each behind one switch, off by default.

None of inference so far: `FlagICLModel` gives the released token ids (see there), its other deviations are mended.
"""

from __future__ import annotations

COMPAT: dict[str, str] = {
    "bge_icl:ddp-mean": "over W processes the gradient of the in-batch loss is 1/W of that of one process",
    "bge_icl:sts-no-in-batch": "the paper's text: semantic similarity has no in-batch negatives (the released code "
    "has them)",
}
