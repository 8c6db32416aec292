"""Reading JSON and the rows of data files, with errors that name file and line."""

from __future__ import annotations

import codecs
import csv
import errno
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from common.errors import InputError

ROW_FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

SHIPPED = Path(__file__).with_name("shipped")  # the data that come with the project


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of the user's data: that of `--data_dir`, else that which EMBED_DATA names; None: neither is given."""
    named = data_dir or os.environ.get("EMBED_DATA")
    return Path(named).expanduser() if named else None


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file (`.gz` too); InputError with file and line when it is not JSON."""
    with _open(Path(path)) as handle:
        return _parse_json(b"".join(_lines(handle, path)), f"{path}", 1)


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a data file with the number of the line (Parquet and JSON lists: of the row), from 1.

    Reads `.jsonl`, `.json` (a list of objects, or one object per line), `.csv`, `.tsv` (each also `.gz`) and
    `.parquet`, all but a JSON list as a stream. CSV follows RFC 4180; TSV has no quoting, as the field's
    files have it (AllNLI.tsv, STS-B); both need a header, and all their values are strings. Blank lines and a
    byte-order mark are skipped. InputError with file and line for a row that can't be read, a row that is not
    an object or has another number of columns than the header, and for a file without rows.
    """
    path = Path(path)
    stem, zipped = (path.name[:-3], True) if path.name.endswith(".gz") else (path.name, False)
    kind = Path(stem).suffix.lower()
    if kind not in ROW_FORMATS or (zipped and kind == ".parquet"):
        raise InputError(f"{path}: {kind or 'a name without a suffix'} is none of {', '.join(ROW_FORMATS)}")
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return _not_empty(path, _parquet_rows(path) if kind == ".parquet" else _text_rows(path, kind))


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The lines of a text file (`.gz` too), blank ones included, with their numbers, from 1.

    InputError with file and line where it is not UTF-8, or no whole gzip file.
    """
    with _open(Path(path)) as handle:
        for number, line in enumerate(_lines(handle, path), 1):
            yield number, _decode(line, path, number).rstrip("\r\n")


def _not_empty(path: Path, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for number, row in rows:
        yield number, row
    if not number:
        raise InputError(f"{path} holds no rows")


def _text_rows(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as handle:
        lines = _lines(handle, path)
        if kind == ".csv":
            yield from _table_rows(path, _csv_records(path, lines))
        elif kind == ".tsv":
            records = ((number, line.rstrip("\r\n").split("\t")) for number, line in _numbered(lines, path))
            yield from _table_rows(path, records)
        elif kind == ".json" and not _is_json_lines(path):
            yield from _json_list_rows(path, _parse_json(b"".join(lines), f"{path}", 1))
        else:
            for number, line in _numbered(lines, path):
                row = _parse_json(line.rstrip("\r\n"), f"{path}", number)
                yield number, _object(row, f"{path}:{number}", escapes="\\u" in line)


def _is_json_lines(path: Path) -> bool:
    """Whether a `.json` file holds one object per line: its first line that is not blank is one."""
    with _open(path) as handle:
        first = next((line for line in _lines(handle, path) if line.strip()), b"")
    if not first.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _json_list_rows(path: Path, content: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    if not isinstance(content, list):
        raise InputError(f"{path} holds one {_json_type(content)}; a list of objects is due")
    for number, row in enumerate(content, 1):
        yield number, _object(row, f"{path}: row {number}")


def _object(row: Any, place: str, escapes: bool = True) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{place}: a {_json_type(row)} where an object is due")
    try:
        if escapes:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:  # "\\ud83d" alone: legal JSON, but no text that a tokenizer could take
        raise InputError(f"{place}: half of a surrogate pair, {error.object[error.start]!r}; mend the text") from None
    return row


def _csv_records(path: Path, lines: Iterator[bytes]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # the standard limit, 131,072 characters, is less than a long document
    texts = (_decode(line, path, number) for number, line in enumerate(lines, 1))
    reader = csv.reader(texts, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}:{start}: not CSV: {error}") from None
        if record:
            yield start, record


def _table_rows(path: Path, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    line, header = next(records, (1, []))
    if "" in header:
        hint = "; write it without the index: to_csv(..., index=False)" if not header[0] else ""
        raise InputError(f"{path}:{line}: column {header.index('') + 1} of the header has no name{hint}")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}:{line}: the header names column {twice[0]!r} twice")
    for number, record in records:
        if len(record) != len(header):
            raise InputError(f"{path}:{number}: {len(record)} columns, but the header has {len(header)}")
        yield number, dict(zip(header, record))


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a whole Parquet file, after row {number}: {error}") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _lines(handle: IO[bytes], path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Lines as bytes: JSON may hold U+2028 and its like, at which text files must not be split."""
    number = 0
    try:
        for number, line in enumerate(handle, 1):
            yield line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file, after line {number}: {error}") from None


def _numbered(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, str]]:
    return ((number, _decode(line, path, number)) for number, line in enumerate(lines, 1) if line.strip())


def _decode(data: bytes, path: str | os.PathLike[str], line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise InputError(f"{path}:{line}: not UTF-8 (byte {data[error.start]:#04x}); convert the file") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_json(text: bytes | str, path: str, line: int) -> Any:
    """JSON that begins at `line` of `path`; NaN and Infinity, which Python would take, are refused."""
    text = _decode(text, path, line) if isinstance(text, bytes) else text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        what = "" if text.strip() else " (the file is empty)"
        place = f"{path}:{line + error.lineno - 1}"
        raise InputError(f"{place}: not JSON: {error.msg}, column {error.colno}{what}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{line}: {error}") from None


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", type(None): "null", bool: "boolean"}
    return names.get(type(value), "number")
