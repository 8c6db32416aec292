"""The prompts of InBedder and of its baselines, letter by letter, and the instruction where none is given."""

from __future__ import annotations

from common.errors import InputError
from common.prompts import Template

# Input before instruction, nothing behind the colon: so the released weights were trained. {input} is {text}.
PATTERN = "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:"
# Of training rows without an input.
NO_INPUT = "### Instruction:\n{instruction}\n\n### Response:"
# The prompt of the Alpaca baselines (without Alpaca's preamble), and of Llama-2-chat.
ALPACA = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
CHAT = (
    "[INST] Your task is to give an answer according to the instruction and input. Please keep your answer short."
    "\n\nInput: {input}\n\nInstruction: {instruction}\n\n### Your Answer: [/INST]"
)
BY_NAME = {"inbedder": PATTERN, "alpaca": ALPACA, "llama-2-chat": CHAT}

# What the authors ask about the sentences of STS; it stands in where a caller gives no instruction.
DEFAULT_INSTRUCTION = "Extract key words from the sentence."


def template_of(pattern: str, tail: str = "") -> Template:
    """A pattern as a template; without an instruction `DEFAULT_INSTRUCTION` is asked.

    Args:
        pattern: a name of `BY_NAME`, or a pattern with {input} or {text}, and maybe {instruction}.
        tail: put behind it: the mask tokens of a masked model.

    Raises:
        InputError: no place for the text, or several.
    """
    filled = BY_NAME.get(pattern, pattern).replace("{input}", "{text}") + tail
    if filled.count("{text}") != 1:
        raise InputError(f"template {pattern!r}: needs {{input}} or {{text}} exactly once; named: {', '.join(BY_NAME)}")
    plain = filled.replace("{instruction}", DEFAULT_INSTRUCTION) if "{instruction}" in filled else None
    return Template(filled, plain=plain)


def check_asks(pattern: str, flag: str) -> None:
    """That a pattern (as in `template_of`) asks a question about the text.

    Raises:
        InputError: no place for the text, or none for the question; names the flag.
    """
    if not template_of(pattern).takes_instruction:
        raise InputError(f"{flag} {pattern!r}: needs {{instruction}}, the place of the question")
