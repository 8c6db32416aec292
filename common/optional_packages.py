"""Packages that a recipe names and that need not be there: used where they are, else said and done without."""

from __future__ import annotations

import logging
from collections.abc import Sequence

logger = logging.getLogger(__name__)


def installed_attention(name: str | None) -> str | None:
    """`name`, or None (what is best on this device without it) where it is flash-attention and can't be used here."""
    if name != "flash_attention_2":
        return name
    from transformers.utils import is_flash_attn_2_available

    if is_flash_attn_2_available():
        return name
    logger.warning("--attn_implementation flash_attention_2 is not installed, or there is no CUDA; going on without it")
    return None


def installed_reports(names: Sequence[str]) -> list[str]:
    """`names` without "tensorboard" where that is not installed; ["none"] when nothing is left."""
    from transformers.integrations import is_tensorboard_available

    if "tensorboard" not in names or is_tensorboard_available():
        return list(names)
    logger.warning("no TensorBoard logs: the package tensorboard is not installed (pip install tensorboard)")
    return [name for name in names if name != "tensorboard"] or ["none"]
