"""The strings of BGE-ICL's prompt, letter by letter (paper, section 3; the released code)."""

from __future__ import annotations

from common.errors import InputError

QUERY_FORMAT = "<instruct>{}\n<query>{}"
EXAMPLE_FORMAT = "<instruct>{}\n<query>{}\n<response>{}"
SUFFIX = "\n<response>"
SEPARATOR = "\n\n"  # between examples, and behind the last one
# The whole query; BOS and EOS come from the tokenizer.
TEMPLATE = "{examples}<instruct>{instruction}\n<query>{text}\n<response>"
PASSAGE = "{text}"
# Without special tokens (the released `use_special_tokens False`); an example has a blank behind "Response:".
PLAIN_TEMPLATE = "{examples}Instruct: {instruction}\nQuery: {text}\nResponse:"
PLAIN_EXAMPLE_FORMAT = "Instruct: {}\nQuery: {}\nResponse: {}"
SPECIAL_TOKENS = ("<instruct>", "<query>", "<response>")


def fill(pattern: str, *values: str) -> str:
    r"""A released format with its `{}` filled in, in order; a written-out \n is a line break, as released.

    Raises:
        InputError: another number of places.
    """
    pieces = pattern.replace("\\n", "\n").split("{}")
    if len(pieces) != len(values) + 1:
        raise InputError(f"format {pattern!r}: needs {{}} {len(values)} times, has it {len(pieces) - 1} times")
    return pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:]))
