"""Evaluate an LLM2Vec model on STS; `--instruction` is read before every text, and not pooled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.sts_program import StsConfig, evaluate_sts
from common import cli
from llm2vec.model_flags import ALIASES, DROPPED, REFUSED, VALUES, Llm2VecFlags


@dataclass(kw_only=True)
class EvalConfig(Llm2VecFlags, StsConfig):
    """An LLM2Vec model and what it is tested on."""

    text_edits: Literal["auto", "one-word-prompt", "end-marks", "none"] = field(
        default="none", metadata={"help": "edits of other papers' evaluations", "group": "evaluation"}
    )


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {
    "aliases": {**ALIASES, "task_name": "tasks"},
    "dropped": DROPPED,
    "refused": REFUSED,
    "values": VALUES,
}

if __name__ == "__main__":
    cli.run(evaluate_sts, EvalConfig, description=__doc__, **OPTIONS)
