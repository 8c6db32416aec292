"""One corpus, many instructions: the vectors of texts under each, whatever the model takes an instruction by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.prompts import Template

if TYPE_CHECKING:
    from common.encoder import Encoder
    from inbedder.mode_encoder import ModeEncoder

# At most so many bytes of vectors are held at a time.
HELD_BYTES = 2**30
Form = Literal["own", "plain", "prefix", "string"]
STRING = "{instruction}: {text}"


@dataclass
class Asker:
    """An encoder, and how instructions get into it.

    Attributes:
        encoder: any encoder.
        form: how it takes an instruction. own: by its template; plain: not at all, the template is filled without
            one; string: in front of the text, as one string that is pooled as a whole (what the paper's baselines had);
            prefix: the same, and only the text is pooled.
        modes: of an InBedder model that is read in another way than its default; with `mode` and `layer`.
        options: batch_size, max_batch_tokens of `Encoder.encode`.
    """

    encoder: Encoder
    form: Form = "own"
    modes: ModeEncoder | None = None
    mode: str | None = None
    layer: int = -1
    options: Mapping[str, Any] = field(default_factory=dict)

    def many(self, texts: Sequence[str], instructions: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every instruction with the vectors (n, D) of all texts under it; not all of them are held at a time."""
        if self.form == "plain":
            vectors = self._plain(texts)
            yield from ((instruction, vectors) for instruction in instructions)
        elif self.modes is not None:
            for instruction in instructions:
                yield instruction, self._mode(texts, instruction)
        else:
            from common.many_instructions import encode_many

            at_once = max(1, HELD_BYTES // (4 * self.encoder.dim * max(1, len(texts))))
            for start in range(0, len(instructions), at_once):
                some = instructions[start : start + at_once]
                yield from zip(some, encode_many(self.encoder, texts, some, **self.options))

    def each(self, texts: Sequence[str], instructions: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, D) of texts, each under its own instruction."""
        if self.form == "plain":
            return self._plain(texts)
        if self.modes is not None:
            return self._mode(texts, list(instructions))
        return np.asarray(self.encoder.encode(list(texts), instruction=list(instructions), **self.options))

    def _plain(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.modes is not None:
            return self._mode(texts, None)
        return np.asarray(self.encoder.encode(list(texts), **self.options))

    def _mode(self, texts: Sequence[str], instruction: str | list[str] | None) -> NDArray[np.float32]:
        assert self.modes is not None
        given: dict[str, Any] = {"instruction": instruction, **self.options}
        return np.asarray(self.modes.encode(list(texts), self.mode, self.layer, **given))


def make_asker(
    encoder: Encoder,
    form: Form | None = None,
    modes: ModeEncoder | None = None,
    mode: str | None = None,
    layer: int = -1,
    options: Mapping[str, Any] | None = None,
) -> Asker:
    """An asker; the encoder's template is changed where the form asks for it.

    Args:
        encoder: any.
        form: None: own where the encoder's template takes an instruction, else string.
        modes, mode, layer, options: of `Asker`.

    Raises:
        InputError: form own and no place for an instruction in the template, or the other way round.
    """
    template = encoder.templates["text"]
    takes = template.takes_instruction
    chosen: Form = form or ("own" if takes else "string")
    if chosen == "own" and not takes:
        raise InputError(f"--instruction_form own: template {template.pattern!r} has no place for an instruction; "
                         "give plain, string or prefix")  # fmt: skip
    if chosen in ("string", "prefix"):
        if takes:
            raise InputError(f"--instruction_form {chosen}: template {template.pattern!r} has a place of its own for "
                             "an instruction; leave the flag out")  # fmt: skip
        encoder.templates["text"] = Template(template.pattern.replace("{text}", STRING), plain=template.pattern)
        if chosen == "prefix":
            encoder.pooled = "text_and_suffix"
    return Asker(encoder, chosen, modes, mode, layer, dict(options or {}))
