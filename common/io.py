"""Files: atomic writes and hashes; reading and the environment's fingerprint are taken in from beside.

Every write goes to a hidden file or folder beside its target, is flushed to disk and only then takes the
target's name, so that a killed process leaves the old content or the new, never a part. What it may leave is
a hidden `.NAME.*.tmp`, which nothing reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from common.environment import command_line, environment
from common.errors import InputError
from common.reading import read_json, read_rows

__all__ = [
    "atomic_file",
    "atomic_folder",
    "command_line",
    "environment",
    "read_json",
    "read_rows",
    "sha256_file",
    "sha256_of",
    "write_bytes",
    "write_json",
    "write_npz",
    "write_text",
]


def _temporary(path: Path) -> Path:
    """A free hidden name beside `path` (the same file system, which `os.replace` needs)."""
    name = path.name.encode("ascii", "ignore").decode()[:100]  # a name has 255 bytes at most
    return path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _flush(path: Path) -> None:
    """Force a file or folder entry to disk; file systems that can't do it for folders are let off."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary handle whose content becomes `path`, whole, when the block ends without an error.

    Parent folders are made, a symbolic link is written through, the permissions of an existing file stay.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path} is a folder; a file is to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with open(temporary, "xb") as handle:
            if target.exists():
                os.fchmod(handle.fileno(), target.stat().st_mode & 0o7777)
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic_file(path) as handle:
        handle.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically; line ends stay as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Write `obj` as indented JSON, atomically, keys in their own order.

    NumPy scalars and arrays and paths are accepted. A NaN or an infinity is a ValueError that names its
    place: JSON has neither, and readers differ in what they make of them.
    """
    try:
        text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        place = _non_finite(obj)
        if place is None:
            raise
        raise ValueError(f"{path}: {place} is not a finite number, and JSON has no other") from error
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, as in undecodable file names, stay as \ud8xx escapes
        data = json.dumps(obj, indent=2, allow_nan=False, default=_plain).encode("ascii")
    write_bytes(path, data + b"\n")


def write_npz(path: str | os.PathLike[str], **arrays: Any) -> None:
    """Write named arrays as an uncompressed `.npz`, atomically; arrays of Python objects are refused."""
    import numpy as np

    reserved = sorted({"file", "allow_pickle"} & arrays.keys())
    if reserved:
        raise ValueError(f"{path}: an array can't be named {reserved[0]!r}; numpy.savez uses that name itself")
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{path}: array {name!r} holds Python objects, which only pickle could store")
    with atomic_file(path) as handle:
        np.savez(handle, **arrays)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new empty folder that takes the name `path` when the block ends without an error.

    An existing folder is replaced as a whole, in one step where the system has an atomic exchange (Linux).
    On an error or an interruption the new folder is removed and the old one stays.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise InputError(f"{path} is a file; a folder is to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, files in os.walk(temporary):
            for file in (Path(folder, name) for name in files):
                if not file.is_symlink():
                    _flush(file)
            _flush(Path(folder))
        if target.exists():
            _exchange(temporary, target)
        else:
            os.replace(temporary, target)
        _flush(target.parent)
    finally:  # after an error the unfinished folder, after an exchange the old one
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, old: Path) -> None:
    """Swap the names of two folders in one step; where the system can't, in two renames."""
    at_cwd, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0:
        return
    aside = _temporary(old)
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(aside, old)
        raise
    os.replace(aside, new)


def _plain(value: Any) -> object:
    """What JSON can hold in place of a path or a NumPy value (the `default` of `json.dumps`)."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} can't be written as JSON: {value!r:.80}")


def _non_finite(value: Any, place: str = "") -> str | None:
    """Where the first NaN or infinity in a JSON-like value stands, as `scores.STS12[3]`."""
    if isinstance(value, dict):
        parts = [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    elif type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        return None if type(plain) is type(value) else _non_finite(plain, place)
    else:
        bad = isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
        return f"{place or 'the value'} = {value}" if bad else None
    return next(filter(None, (_non_finite(item, name) for name, item in parts)), None)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of(obj: object) -> str:
    """The SHA-256 of a JSON-like value, in hex: the same for any order of keys, and for a tuple and its list.

    Accepts and refuses what `write_json` does.
    """
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
