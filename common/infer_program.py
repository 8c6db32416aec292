"""What every paper's infer.py does: embed texts or a file; print their cosines, or write the vectors."""

from __future__ import annotations

import difflib
import gzip
import json
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from common.errors import InputError
from common.flags import flag
from common.io import atomic_file, write_text
from common.reading import ROW_FORMATS, read_rows

if TYPE_CHECKING:
    from common.encoder import Encoder

PRINTED = 20  # texts whose pairwise cosines still fit on a screen


_flag = partial(flag, group="texts")


@dataclass(kw_only=True)
class TextFlags:
    """Texts, and where their vectors go; a program's configuration is this and its model flags."""

    texts: list[str] = _flag((), "texts to embed", positional=True)
    file: Path | None = _flag(None, "texts: a .txt (one per line), .jsonl, .csv, .tsv, .parquet; .gz allowed")
    column: str = _flag("text", "the column of the file that holds the text")
    role: Literal["text", "query", "document"] = _flag("text", "which prompt, where the model has one for queries")
    instruction: str | None = _flag(None, "what the texts are embedded for, where the prompt has a place for it")
    normalize: bool = _flag(False, "L2-normalise the vectors")
    batch_size: int | None = _flag(None, "texts per batch, at most; default: by tokens")
    output: Path | None = _flag(None, ".npy or .jsonl to write; default: print the cosine of every pair")

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # of the model flags beside it
        if bool(self.texts) == bool(self.file):
            raise InputError("give texts, or --file, and not both")
        if self.output and self.output.suffix not in (".npy", ".jsonl"):
            raise InputError(f"--output {self.output}: must end in .npy or .jsonl")

    def encode_options(self) -> dict[str, Any]:
        """What a paper gives `Encoder.encode` besides."""
        return {}


class InferConfig(Protocol):
    """`TextFlags` and the model flags of a paper (`common.model_flags`)."""

    texts: list[str]
    file: Path | None
    column: str
    role: Literal["text", "query", "document"]
    instruction: str | None
    normalize: bool
    batch_size: int | None
    output: Path | None

    def encode_options(self) -> dict[str, Any]:
        """See `TextFlags.encode_options`."""
        ...

    def resolve(self) -> None:
        """See `ModelFlags.resolve`."""

    def load(self) -> Encoder:
        """See `ModelFlags.load`."""
        ...


def infer(config: InferConfig) -> None:
    """Read, embed, write."""
    texts = list(config.texts) if config.file is None else read_texts(config.file, config.column)
    if not config.output and len(texts) > PRINTED:
        raise InputError(f"{len(texts)} texts are too many to print their cosines; give --output FILE.npy or .jsonl")
    config.resolve()
    encoder = config.load()
    vectors: np.ndarray = encoder.encode(
        texts,
        role=config.role,
        instruction=config.instruction,
        batch_size=config.batch_size,
        normalize_embeddings=config.normalize,
        **config.encode_options(),
    )
    if config.output:
        write_vectors(config.output, texts, vectors)
        print(f"{config.output}: {vectors.shape[0]} x {vectors.shape[1]}")
    else:
        print(cosine_table(texts, encoder.similarity(vectors, vectors).numpy()))


def read_texts(file: Path, column: str) -> list[str]:
    """The texts of a file, in order.

    Raises:
        InputError: names file and line of an empty or missing text, or the columns that are there.
    """
    plain = file.name.removesuffix(".gz")
    if not plain.endswith((".txt", *ROW_FORMATS)):
        raise InputError(f"{file}: must end in .txt, {', '.join(ROW_FORMATS)} (.gz allowed)")
    if plain.endswith(".txt"):
        return [_filled(text, f"{file}:{number}") for number, text in enumerate(_lines(file), 1)]
    texts = []
    for number, row in read_rows(file):
        if column not in row:
            near = difflib.get_close_matches(column, row, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{file}:{number}: no column {column!r} (has {', '.join(row)}){hint}; give --column")
        if not isinstance(row[column], str):
            raise InputError(f"{file}:{number}: column {column!r} should be text, is {type(row[column]).__name__}")
        texts.append(_filled(row[column], f"{file}:{number}"))
    return texts


def _lines(file: Path) -> list[str]:
    """The lines of a text file, without their ends."""
    data = file.read_bytes()
    try:
        data = gzip.decompress(data) if file.suffix == ".gz" else data
        lines = data.decode("utf-8-sig").rstrip("\n").split("\n")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: is no whole gzip file: {error}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{file}:{line}: is not UTF-8 (byte {error.start} of the file)") from error
    if lines == [""]:
        raise InputError(f"{file}: holds no text")
    return [line.removesuffix("\r") for line in lines]


def _filled(text: str, place: str) -> str:
    if not text.strip():
        raise InputError(f"{place}: is empty; remove the line, so that vectors and texts stay in step")
    return text


def write_vectors(path: Path, texts: list[str], vectors: np.ndarray) -> None:
    """`.npy`: the array (n, dim) fp32; `.jsonl`: one object with text and embedding per line. Atomic."""
    if path.suffix == ".npy":
        with atomic_file(path) as handle:
            np.save(handle, vectors)
        return
    rows = ({"text": text, "embedding": vector.tolist()} for text, vector in zip(texts, vectors))
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def cosine_table(texts: list[str], cosine: np.ndarray) -> str:
    """Cosine of every text with every other, as a table."""
    from prettytable import PrettyTable

    table = PrettyTable(["", "text", *(str(i) for i in range(1, len(texts) + 1))])
    table.align["text"] = "l"
    for i, text in enumerate(texts):
        shown = text if len(text) <= 40 else text[:37] + "..."
        table.add_row([i + 1, shown.replace("\n", " "), *(f"{value:.3f}" for value in cosine[i])])
    return str(table)
