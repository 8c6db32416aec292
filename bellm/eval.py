"""Evaluate a BeLLM model on STS, with the flags and the table of the released eval_sts.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bellm.model_flags import ALIASES, DROPPED, REFUSED, VALUES, BellmFlags
from benchmarks.sts_program import StsConfig, evaluate_sts
from common import cli


@dataclass(kw_only=True)
class EvalConfig(BellmFlags, StsConfig):
    """A BeLLM model and what it is tested on."""

    EDITS: ClassVar[Literal["one-word-prompt", "end-marks"]] = "end-marks"


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    cli.run(evaluate_sts, EvalConfig, description=__doc__, **OPTIONS)
