"""Fixtures of the BGE-ICL tests: what FlagEmbedding 1.4.2 gave (tests/golden/bge_icl/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bge_icl"


@dataclass
class Golden:
    """The recorded run: a tiny model, its inputs, the token ids and vectors that came out."""

    model: Path
    inputs: dict[str, Any]
    vectors: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]

    def ids(self, name: str) -> list[list[int]]:
        flat, offsets = self.tokens[f"{name}/ids"], self.tokens[f"{name}/offsets"]
        return [flat[a:b].tolist() for a, b in pairwise(offsets)]

    @property
    def texts(self) -> list[str]:
        return self.inputs["texts"]

    @property
    def examples(self) -> list[dict[str, str]]:
        return self.inputs["examples"]

    @property
    def instruction(self) -> str:
        return self.inputs["instruction"]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """What the original gave."""
    return Golden(
        GOLDEN / "tiny_mistral",
        json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8")),
        dict(np.load(GOLDEN / "embeddings.npz")),
        dict(np.load(GOLDEN / "token_ids.npz")),
    )
