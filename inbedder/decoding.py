"""How answers are generated: the settings of a causal model's answers, checked."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from common.errors import InputError


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated.

    Attributes:
        max_new_tokens: at most.
        do_sample: draw tokens; else the likeliest one is taken.
        temperature, top_p, top_k: of drawing. 50 is what the released code drew from (transformers' default).
        seed: of drawing. A draw depends on it and on the prompt alone, not on the batch.

    Raises:
        InputError: a setting of another type, or out of its range.
    """

    max_new_tokens: int = 3
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 50
    seed: int = 42

    def __post_init__(self) -> None:
        for one in fields(self):
            value, wanted = getattr(self, one.name), type(one.default)
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise InputError(f"{one.name} {value!r}: should be {wanted.__name__}")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {self.max_new_tokens}: must be at least 1")
        if self.temperature <= 0:
            raise InputError(f"temperature {self.temperature}: must be over 0; do_sample=False takes the likeliest")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: must be over 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"top_k {self.top_k}: must be at least 0 (0: no limit)")


def read_decoding(given: Mapping[str, Any]) -> Decoding:
    """The settings that released configurations and encoders give by name; num_beams may be 1.

    Raises:
        InputError: a setting that is not known, several beams, or a value that can't be.
    """
    settings = dict(given)
    beams = settings.pop("num_beams", 1)
    if beams != 1:
        raise InputError(f"num_beams {beams}: an answer is read token by token; only 1 is possible")
    settings.pop("pad_token_id", None)
    refuse_unknown(settings, Decoding.__dataclass_fields__)
    return Decoding(**settings)


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """InputError for the first name that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{name} is not known; {hint}")
