"""Fixtures of the training tests."""

from __future__ import annotations

from training_fixtures import (  # noqa: F401
    tiny_bert,
    tiny_bert_without_dropout,
    tiny_llama,
    triplet_file,
    wide_llama,
)
