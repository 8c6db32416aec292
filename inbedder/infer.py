"""Embed texts under an instruction; print their cosines or their answers, or write the vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common import cli
from common.errors import InputError
from common.infer_program import TextFlags, infer, read_texts
from inbedder.decoding import Decoding
from inbedder.model_flags import ALIASES, DROPPED, InBedderFlags


@dataclass(kw_only=True)
class InferConfig(TextFlags, InBedderFlags):
    """An InBedder model, texts, a question about them, and where their vectors go."""

    answers: bool = field(
        default=False, metadata={"help": "print what the model answers, not the cosines", "group": "texts"}
    )
    max_new_tokens: int = field(default=3, metadata={"help": "tokens of an answer, at most", "group": "texts"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.decoding = Decoding(max_new_tokens=self.max_new_tokens)
        if self.answers and (self.output or self.normalize):
            raise InputError("--answers prints the answers; leave out --output and --normalize, which are of vectors")


def run(config: InferConfig) -> None:
    """Vectors as every paper's infer.py; or a line with the answer for each text."""
    if not config.answers:
        infer(config)
        return
    texts = list(config.texts) if config.file is None else read_texts(config.file, config.column)
    config.resolve()
    encoder = config.load()

    from inbedder.mode_encoder import ModeEncoder

    modes = ModeEncoder(encoder, decoding=config.decoding)
    for answer in modes.answers(texts, instruction=config.instruction, batch_size=config.batch_size):
        print(" ".join(answer.split()))


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED}

if __name__ == "__main__":
    cli.run(run, InferConfig, description=__doc__, **OPTIONS)
