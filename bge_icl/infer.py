"""Embed queries with few-shot examples, or passages; print their cosines, or write the vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from common import cli
from common.errors import InputError
from common.infer_program import TextFlags, infer
from common.model_flags import ALIASES, DROPPED, ModelFlags


@dataclass(kw_only=True)
class InferConfig(TextFlags, ModelFlags):
    """A BGE-ICL model, texts, and where their vectors go; with --instruction a text is a query, else a passage."""

    METHOD: ClassVar[str] = "bge_icl"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")

    examples: Path | None = field(
        default=None, metadata={"help": "file of {query, response} to put before each query", "group": "texts"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples and not self.instruction:
            raise InputError("--examples: needs --instruction; passages take no examples")
        self.encode_options()  # its checks, before a model is loaded

    def encode_options(self) -> dict[str, Any]:
        """The examples as the text that stands before every query."""
        if not self.examples:
            return {}
        from bge_icl.examples import examples_text, read_examples

        return {"examples": examples_text(read_examples(self.examples), self.instruction)}


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED}

if __name__ == "__main__":
    cli.run(infer, InferConfig, description=__doc__, **OPTIONS)
