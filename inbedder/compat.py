"""Quirks of the released InBedder code that changed published numbers, each behind one switch, off by default."""

from __future__ import annotations

COMPAT = {
    "inbedder:left-truncation": "a prompt over max_length loses its head (`### Input:` and the start of the text), not "
    "the end of the text",
    "inbedder:alpaca-order": "training puts the question before the text, reading the text before the question, as the "
    "released train.py does with the hub's data set",
    "inbedder:g1-fallback": "in answer_mean, last_answer and all_mean an answer without a usable token counts as its "
    "first token's state, be it that of EOS",
    "inbedder:minibatch-kmeans": "clusters by mini-batch k-means of 500 vectors with one start, not by full k-means",
    "inbedder:e5-no-prefix": "E5 baselines read the bare text, without `query: `",
}
