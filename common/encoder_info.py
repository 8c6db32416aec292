"""What an encoder is, as plain data for results, and what it has done so far."""

from __future__ import annotations

import dataclasses
from typing import Any

from common.io import sha256_of


@dataclasses.dataclass(frozen=True)
class EncoderInfo:
    """Everything that decides what an encoder's vectors are; written into every result."""

    method: str
    model: str
    title: str
    revision: str | None
    adapter: tuple[str, ...]
    template: str
    query_template: str | None
    document_template: str | None
    pooling: str
    attention: str
    max_length: int
    normalize: bool
    dtype: str
    quantize: str | None
    compat: tuple[str, ...]
    # Fields of later versions have a default, that of an encoder which does not use them.
    pooled: str = "all"
    max_text_length: int | None = None
    merged: bool = False  # adapters are part of the weights

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with the fingerprint."""
        return {**dataclasses.asdict(self), "fingerprint": self.fingerprint}

    @property
    def fingerprint(self) -> str:
        """A short hash over all fields; defaults stay out, so that a new field does not part old results from new."""
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING}
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in defaults or v != defaults[k]}
        return sha256_of(values)[:16]


@dataclasses.dataclass
class Usage:
    """What an encoder has done so far: texts asked for, sequences and tokens run, texts shortened."""

    texts: int = 0
    sequences: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    truncated: int = 0
