"""Readers for the transfer tasks in a folder: JSON Lines, and SentEval's own files.

JSON Lines (`.jsonl.gz`, else plain `.jsonl`), in the folder or in `senteval_transfer/` below it:

    MR, CR, SUBJ, MPQA                     text, label (1 positive or objective, 0 the other)
    SST2.train, SST2.dev, SST2.test        text, label
    TREC.train, TREC.test                  text, label (ABBR, DESC, ENTY, HUM, LOC, NUM)
    MRPC.train, MRPC.test                  s1, s2, label

SentEval's own files, as its download script leaves them, in the folder or in `downstream/` below it:

    MR/rt-polarity.{pos,neg}, CR/custrev.{pos,neg}, SUBJ/subj.{objective,subjective}, MPQA/mpqa.{pos,neg}
    SST/binary/sentiment-{train,dev,test}  text <tab> label
    TREC/train_5500.label, TREC_10.label   "DESC:manner How did ...", Latin-1
    MRPC/msr_paraphrase_{train,test}.txt   label, two ids, two texts, tab-separated, with a heading
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from senteval.sources import jsonl_file, read_lines
from senteval.tasks import SentEvalError
from senteval.transfer_tasks import (
    OFFICIAL_TEXTS,
    PAIR_TASKS,
    TREC_CLASSES,
    Part,
    TransferTask,
    scheme_of,
    transfer_name,
)

Row = tuple[str, str, str | None, object]
"""Where it stands, text, second text of a pair, label as it is written."""

JSONL_FOLDER = "senteval_transfer"
_BY_CLASS = {  # task -> the files of class 1 and of class 0, in SentEval's order
    "MR": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "CR": ("CR/custrev.pos", "CR/custrev.neg"),
    "SUBJ": ("SUBJ/subj.objective", "SUBJ/subj.subjective"),
    "MPQA": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
}
_BY_PART = {
    "SST2": {part: f"SST/binary/sentiment-{part}" for part in ("train", "dev", "test")},
    "TREC": {"train": "TREC/train_5500.label", "test": "TREC/TREC_10.label"},
    "MRPC": {part: f"MRPC/msr_paraphrase_{part}.txt" for part in ("train", "test")},
}


def load_transfer(
    name: str, data_dir: str | Path | None = None, *, limit: int | None = None, seed: int = 0
) -> TransferTask:
    """One transfer task.

    Args:
        name: one of `TRANSFER_TASKS`, in any case.
        data_dir: the folder; None: the one that the environment variable EMBED_DATA names.
        limit: a random sample of at most so many texts of every part.
        seed: of that sample.

    Raises:
        SentEvalError: the task is unknown, missing in the folder, or a row of it is malformed.
    """
    name = transfer_name(name)
    folder = data_dir or os.environ.get("EMBED_DATA")
    if not folder:
        raise SentEvalError(
            f"{name}: no data; give --data_dir (or EMBED_DATA), or fetch it: "
            "bash scripts/download_data.sh data --only eval"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise SentEvalError(f"--data_dir {folder} is not a folder")
    task = _read_jsonl(folder, name) or _read_senteval(folder, name)
    if task is None:
        raise SentEvalError(
            f"{name} is missing: {folder} has neither {JSONL_FOLDER}/{_stem(name, next(iter(OFFICIAL_TEXTS[name])))}"
            f".jsonl(.gz) nor SentEval's files for it; check --data_dir, or fetch them: bash scripts/download_data.sh "
            f"{folder} --only eval"
        )
    return task.sample(limit, seed)


def _task(name: str, parts: dict[str, Part], source: str) -> TransferTask:
    size = len(parts["all" if scheme_of(name) == "nested" else "test"])
    return TransferTask(name=name, parts=parts, source=source, index=np.arange(size), total=size)


def _part(name: str, rows: Iterable[Row], source: object) -> Part:
    """The rows of one part, checked."""
    text, second, label = [], [], []
    for where, first, other, written in rows:
        text.append(" ".join(first.split()))
        second.append(" ".join((other or "").split()))
        label.append(_class(name, where, written))
    if not text:
        raise SentEvalError(f"{source}: no row of {name}; the data is incomplete, fetch it again")
    return Part(text, np.array(label, dtype=np.int64), second if name in PAIR_TASKS else None)


def _class(name: str, where: str, written: object) -> int:
    """The class number of a label."""
    known = TREC_CLASSES if name == "TREC" else ("0", "1")
    if isinstance(written, bool) or str(written) not in known:
        raise SentEvalError(f"{where}: {written!r} is no label of {name}: {', '.join(known)}")
    return known.index(str(written))


# JSON Lines


def _stem(name: str, part: str) -> str:
    return name if part == "all" else f"{name}.{part}"


def _read_jsonl(folder: Path, name: str) -> TransferTask | None:
    """The task from JSON Lines, or None if the folder has no file of it."""
    stems = {part: _stem(name, part) for part in OFFICIAL_TEXTS[name]}
    for home in (folder / JSONL_FOLDER, folder):
        files = {part: jsonl_file(home, stem) for part, stem in stems.items()}
        found = {part: file for part, file in files.items() if file}
        if not found:
            continue
        if lost := [stems[part] for part in files if part not in found]:
            raise SentEvalError(f"{home / lost[0]}.jsonl(.gz) is missing; {name} is {' + '.join(stems.values())}")
        parts = {part: _part(name, _json_rows(file, name in PAIR_TASKS), file) for part, file in found.items()}
        return _task(name, parts, "jsonl: " + ", ".join(map(str, found.values())))
    return None


def _json_rows(file: Path, pairs: bool) -> Iterator[Row]:
    keys = ("s1", "s2") if pairs else ("text",)
    for where, line in read_lines(file):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise SentEvalError(f"{where}: not valid JSON ({error.msg})") from None
        if not isinstance(record, dict):
            raise SentEvalError(f"{where}: not a JSON object")
        if lost := [key for key in (*keys, "label") if key not in record]:
            raise SentEvalError(f"{where}: no field {lost[0]!r}")
        texts = [record[key] for key in keys]
        if wrong := [key for key, text in zip(keys, texts) if not isinstance(text, str)]:
            raise SentEvalError(f"{where}: {wrong[0]!r} is not a string")
        yield where, texts[0], texts[1] if pairs else None, record["label"]


# SentEval's own files


def _read_senteval(folder: Path, name: str) -> TransferTask | None:
    """The task from SentEval's own files, or None if the folder has none of it."""
    files = _BY_CLASS.get(name) or tuple(_BY_PART[name].values())
    for home in (folder, folder / "downstream"):
        paths = [home / file for file in files]
        if not any(path.is_file() for path in paths):
            continue
        if name in _BY_CLASS:
            rows = [row for path, label in zip(paths, ("1", "0")) for row in _class_rows(path, label)]
            parts = {"all": _part(name, rows, paths[0].parent)}
        else:
            parts = {part: _part(name, _ROWS[name](path), path) for part, path in zip(_BY_PART[name], paths)}
        return _task(name, parts, f"senteval: {paths[0].parent}")
    return None


def _class_rows(path: Path, label: str) -> Iterator[Row]:
    for where, line in read_lines(path, "latin-1"):
        yield where, line, None, label


def _sst_rows(path: Path) -> Iterator[Row]:
    for where, line in read_lines(path):
        text, tab, label = line.strip().partition("\t")
        if not tab:
            raise SentEvalError(f"{where}: no tab between text and label: {line[:60]!r}")
        yield where, text, None, label


def _trec_rows(path: Path) -> Iterator[Row]:
    for where, line in read_lines(path, "latin-1"):
        label, colon, rest = line.strip().partition(":")
        fine, blank, text = rest.partition(" ")
        if not (colon and fine and blank):
            raise SentEvalError(f"{where}: not 'CLASS:fine text': {line[:60]!r}")
        yield where, text, None, label


def _mrpc_rows(path: Path) -> Iterator[Row]:
    for number, (where, line) in enumerate(read_lines(path)):
        if number == 0:
            continue  # the heading
        cells = line.strip().split("\t")
        if len(cells) < 5:
            raise SentEvalError(f"{where}: {len(cells)} tab-separated columns, expected 5: {line[:60]!r}")
        yield where, cells[3], cells[4], cells[0]


_ROWS: dict[str, Callable[[Path], Iterator[Row]]] = {"SST2": _sst_rows, "TREC": _trec_rows, "MRPC": _mrpc_rows}
