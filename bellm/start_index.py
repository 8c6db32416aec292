"""Which layers are bidirectional: what the user says, what the environment says, what a saved model says."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from common.errors import InputError

logger = logging.getLogger(__name__)

VARIABLE = "BiLLM_START_INDEX"


def start_index(given: int | None) -> int | None:
    """The first bidirectional layer (0-based) that was asked for: by the argument, else by `BiLLM_START_INDEX`.

    None: neither says anything. The released code reads the variable once, at import; here it is read at the call.

    Raises:
        InputError: the variable holds no whole number.
    """
    text = os.environ.get(VARIABLE)
    if given is not None or not text:
        return given
    try:
        index = int(text)
    except ValueError as error:
        raise InputError(f"{VARIABLE}={text}: must be a whole number (a layer, 0-based; -1: causal)") from error
    logger.info("%s=%d: taken as --bidirectional_from %d", VARIABLE, index, index)
    return index


def attention_mode(asked: int | None, recorded: Any, layers: int) -> str | dict[str, int]:
    """The attention of a model with so many layers; the paper's default is the last layer alone.

    Args:
        asked: see `start_index`; -1, or the number of layers: causal.
        recorded: the mode that a saved model or a released id brings along, or None.
        layers: the number of layers.

    Raises:
        InputError: no such layer, or another than the weights were trained with.
    """
    wanted = None if asked is None else _mode(asked, layers)
    known = None if recorded is None else canonical(recorded, layers)
    if wanted is not None and known is not None and wanted != known:
        raise InputError(
            f"--bidirectional_from {asked} (or {VARIABLE}): these weights were trained with {known}; leave it out"
        )
    mode = wanted if known is None else known
    if mode is None:
        mode = _mode(layers - 1, layers)
    if mode == "causal":
        logger.warning("no layer is bidirectional: the model is fully causal")
    return mode


def canonical(mode: Any, layers: int) -> str | dict[str, int]:
    """One way of writing each mode: from layer 0 is "bidirectional", from the number of layers "causal"."""
    return _mode(mode["bidirectional_from"], layers) if isinstance(mode, Mapping) else str(mode)


def _mode(index: int, layers: int) -> str | dict[str, int]:
    if not -1 <= index <= layers:
        raise InputError(f"--bidirectional_from {index}: the layers are 0 to {layers - 1} ({layers} or -1: causal)")
    if index in (-1, layers):
        return "causal"
    return "bidirectional" if index == 0 else {"bidirectional_from": index}
