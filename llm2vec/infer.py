"""Embed texts from the command line or a file; print their cosines, or write the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common import cli
from common.infer_program import TextFlags, infer
from llm2vec.model_flags import ALIASES, DROPPED, REFUSED, VALUES, Llm2VecFlags


@dataclass(kw_only=True)
class InferConfig(TextFlags, Llm2VecFlags):
    """An LLM2Vec model, texts, and where their vectors go."""


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    cli.run(infer, InferConfig, description=__doc__, **OPTIONS)
