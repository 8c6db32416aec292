"""Templates: text, instruction and few-shot examples -> the exact string that the model reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import InputError

FIELDS = ("text", "instruction", "examples")
_FIELD = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")


@dataclass(frozen=True)
class Rendered:
    """A filled template, in three parts; truncation may shorten `text` and nothing else."""

    prefix: str
    text: str
    suffix: str

    @property
    def full(self) -> str:
        """The string as the model reads it."""
        return self.prefix + self.text + self.suffix


@dataclass(frozen=True)
class Template:
    """A prompt with one place for the text, and maybe one for an instruction and one for examples.

    Only the names in `FIELDS` in braces are places; every other brace is plain text (`str.format` would fail
    on it, a quirk of the released AnglE).

    Attributes:
        pattern: for example 'Summarize sentence "{text}" in one word:"'.
        plain: the pattern to use when no instruction is given; None: an instruction is required where
            `pattern` has a place for it.
    """

    pattern: str = "{text}"
    plain: str | None = None

    def __post_init__(self) -> None:
        for pattern in (self.pattern, self.plain):
            if pattern is None:
                continue
            places = [m.group(1) for m in _FIELD.finditer(pattern)]
            if places.count("text") != 1:
                raise InputError(
                    f"template {pattern!r}: needs {{text}} exactly once, has it {places.count('text')} times"
                )
            for name in ("instruction", "examples"):
                if places.count(name) > 1:
                    raise InputError(f"template {pattern!r}: has {{{name}}} more than once")
        if self.plain is not None and "{instruction}" in self.plain:
            raise InputError(f"template {self.plain!r}: the pattern without instruction has a place for one")

    @property
    def takes_instruction(self) -> bool:
        """Whether there is a place for an instruction."""
        return "{instruction}" in self.pattern

    def render(self, text: str, *, instruction: str | None = None, examples: str = "") -> Rendered:
        """Fill the template.

        Raises:
            InputError: an instruction where the template has no place for it, or none where it needs one.
        """
        pattern = self.pattern
        if instruction is None and self.takes_instruction:
            if self.plain is None:
                raise InputError(f"template {pattern!r} needs an instruction; give instruction=...")
            pattern = self.plain
        elif instruction is not None and not self.takes_instruction:
            raise InputError(f"template {pattern!r} has no place for an instruction; add {{instruction}} or drop it")
        if examples and "{examples}" not in pattern:
            raise InputError(f"template {pattern!r} has no place for examples; add {{examples}} or drop them")
        before, after = pattern.split("{text}")
        values = {"instruction": instruction or "", "examples": examples}

        def fill(part: str) -> str:
            return _FIELD.sub(lambda m: values[m.group(1)], part)

        return Rendered(fill(before), text, fill(after))


def check_texts(texts: object) -> list[str]:
    """The texts as a list of str.

    Raises:
        InputError: naming the index of the first thing that is not a str.
    """
    if isinstance(texts, (bytes, dict)) or not hasattr(texts, "__iter__"):
        raise InputError(f"texts: expected a str or a list of str, got {type(texts).__name__}")
    checked = list(texts)
    for i, text in enumerate(checked):
        if not isinstance(text, str):
            raise InputError(f"texts[{i}]: expected str, got {'None' if text is None else type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"texts[{i}]: has a lone surrogate at character {error.start}, not valid text") from None
    return checked
