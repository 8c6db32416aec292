"""Quirks of the released LLM2Vec code that changed published numbers, each behind one switch, off by default.

The one place where they are described; pooling and tokenisation only ask for the names. What is a choice of a
recipe (chat template in SimCSE, `;` or `:` after an instruction, instructed documents, the chat suffix in the
pool) is a field of the recipe or of `load`, not a switch.
"""

from __future__ import annotations

COMPAT = {
    "llm2vec:simcse-pool-all": "in SimCSE training the mean runs over BOS and padding too (texts padded on the left)",
    "llm2vec:embed-mask": "pooled are as many last tokens as text and suffix have when tokenised alone, which can "
    "be one more or less than they have in their place",
    "llm2vec:word-truncation": "a text over doc_max_length loses words, by the ratio of tokens; one without blanks "
    "becomes empty",
}
