"""Quirks of the released BeLLM code that changed published numbers, each behind one switch, off by default."""

from __future__ import annotations

COMPAT = {
    "bellm:unmask-padding": "bidirectional layers attend to padding, so that a vector depends on its batch; every "
    "published number was made so (batches of 16: --batch_size 16)",
}
