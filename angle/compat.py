"""Quirks of the released AnglE code that changed published numbers, each behind one switch, off by default.

The one place where they are described; objective, pooling, tokenisation and suites only ask for the names.
"""

from __future__ import annotations

COMPAT = {
    "angle:per-device-negatives": "negatives and label pairs within each process only (no gathering)",
    "angle:senteval-blanks": "trailing blanks in the STS12-16 texts, and the edits that follow from them",
    "angle:pool-pad-mean": "the mean in mean and cls_avg runs over padding too (angle_emb <= 0.3.1)",
    "angle:pool-batch-mask-sum": "the mean in mean and cls_avg is divided by the number of real tokens of "
    "the whole batch (0.3.5 to 0.5.1, for cls_avg to 0.5.4)",
    "angle:max-pooling": "max and cls_max let padding enter as 0 (all versions)",
    "angle:tail-truncation": "texts over max_length lose the tail of the template, not of the text",
    "angle:int-labels": "labels are cut to whole numbers, and pairs whose row index times label collide are "
    "positives of each other (<= 0.5.6; the in-batch term of all versions)",
}
