"""A folder of vectors that were computed before, keyed by text, weights, mode and every setting that counts.

    FOLDER/SETTINGS/settings.json   what the vectors were made with, in words
    FOLDER/SETTINGS/*.npz           the rows of one call each, and their texts' keys

A row is found by the hash of its text and instruction, in the folder named by the hash of everything else: the weights
themselves (not the name of the model), prompt, length, precision, mode, layer, decoding. So neither other texts nor a
model trained further ever get an old vector, and texts that are new are run alone.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common.io import sha256_of, write_json, write_npz

logger = logging.getLogger(__name__)


class RowCache:
    """The rows (vectors of any meaning, fp32) of one setting.

    Args:
        folder: made when the first rows are stored.
        settings: everything but the text that decides a row, as plain data.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.folder = Path(folder) / sha256_of(settings)[:32]

    def find(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The rows that are there, by key."""
        wanted = set(keys)
        found: dict[str, np.ndarray] = {}
        for file in sorted(self.folder.glob("*.npz")) if self.folder.is_dir() else ():
            if len(found) == len(wanted):
                break
            try:
                with np.load(file) as arrays:
                    known, rows = arrays["keys"].tolist(), arrays["rows"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                logger.warning("%s can't be read (%s); its texts are run again", file, error)
                continue
            found.update((key, row) for key, row in zip(known, rows) if key in wanted)
        return found

    def store(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Keep the rows (n, W) of n keys."""
        if not len(keys):
            return
        write_json(self.folder / "settings.json", self.settings)
        write_npz(self.folder / f"{sha256_of(list(keys))[:32]}.npz", keys=np.array(list(keys)), rows=rows)


def weights_hash(*modules: nn.Module) -> str:
    """The SHA-256 over all parameters and buffers of modules, in hex; about a second for 1 GB."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            if not isinstance(tensor, torch.Tensor):
                continue
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            data = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()
