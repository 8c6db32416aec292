"""Quirks of the released AnglE code that changed published numbers, each behind one switch, off by default."""

from __future__ import annotations

COMPAT = {
    "angle:per-device-negatives": "in-batch negatives and label pairs within each process only (no gathering)",
    "angle:senteval-blanks": "trailing blanks in the STS12-16 texts, and the text edits that follow from them",
    "angle:pool-pad-mean": "avg and cls_avg pooling average padding positions too (angle_emb <= 0.3.1)",
    "angle:pool-batch-mask-sum": "avg and cls_avg divide by the mask sum of the whole batch (0.3.5 to 0.5.4)",
    "angle:max-pooling": "max pooling lets padding enter as 0",
    "angle:tail-truncation": "texts over max_length lose the tail of the template, not of the text",
    "angle:int-labels": "labels of pairs are cut to int (<= 0.5.6; in the in-batch term of all versions)",
}
