"""Evaluate an AnglE model on STS, with the flags and the table of the released evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from angle.model_flags import ALIASES, DROPPED, REFUSED, AngleFlags
from benchmarks.sts_program import StsConfig, evaluate_sts
from common import cli


@dataclass(kw_only=True)
class EvalConfig(AngleFlags, StsConfig):
    """An AnglE model and what it is tested on."""


_ESE = dict.fromkeys(("embedding_start", "embedding_size"), "Espresso (ESE) is left out for now")
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": {**REFUSED, **_ESE}}

if __name__ == "__main__":
    cli.run(evaluate_sts, EvalConfig, description=__doc__, **OPTIONS)
