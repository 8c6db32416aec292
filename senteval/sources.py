"""Readers for STS data in a folder: JSON Lines, and the original SentEval layout.

JSON Lines (`.jsonl.gz`, else plain `.jsonl`), one object a line, both protocols:

    sts12-16/STS12.jsonl.gz ... STS16.jsonl.gz     subset, score, s1, s2 (both protocols)
    stsbenchmark/test.jsonl.gz                     score, s1, s2 (senteval), s1_raw, s2_raw (mteb)
    sick/{train,trial,test}.jsonl.gz               the same

SentEval's own files, as its download script leaves them, here or under `downstream/`; STS12-16 for both protocols,
the other two for senteval only:

    STS/STS12-en-test/STS.input.MSRpar.txt    text <tab> text, one pair a line
    STS/STS12-en-test/STS.gs.MSRpar.txt       one grade a line; an empty line means: not graded, dropped
    STS/STSBenchmark/sts-test.csv             tab-separated, no quoting: grade, text, text in columns 5 to 7
    SICK/SICK_test_annotated.txt              tab-separated, heading: text, text, grade in columns 2 to 4

In the senteval protocol words are joined by single blanks, as SentEval's batches do.
"""

from __future__ import annotations

import gzip
import json
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from senteval.tasks import SUBSETS, WHOLE, PairTask, SentEvalError

logger = logging.getLogger(__name__)

_TOKENISED, _RAW = ("s1", "s2"), ("s1_raw", "s2_raw")
# MTEB's copies of STS12-16 are SentEval's files: tokenised, lower-cased (its published character counts are theirs);
# its STS-B and SICK-R are raw.
_RAW_IN_MTEB = ("STSBenchmark", "SICK-R")
# Some JSON Lines copies of STS12 leave out the "surprise." of the official file names.
_SHORT_SUBSETS = {"STS12": {"OnWN": "surprise.OnWN", "SMTnews": "surprise.SMTnews"}}


@dataclass
class Rows:
    """Graded pairs while they are read; `add` checks each one."""

    name: str
    protocol: str
    text1: list[str] = field(default_factory=list)
    text2: list[str] = field(default_factory=list)
    gold: list[float] = field(default_factory=list)
    subset: list[str] = field(default_factory=list)
    max_words: dict[str, int] = field(default_factory=dict)
    ungraded: int = 0

    def add(self, where: str, subset: str, text1: object, text2: object, grade: object, grade_where: str = "") -> None:
        """Keep one pair, or drop it unchecked if it has no grade.

        `where` is the file and line for errors, `grade_where` that of the grade if it stands elsewhere.
        """
        words = max(len(text.split()) for text in (text1, text2, "") if isinstance(text, str))
        self.max_words[subset] = max(self.max_words.get(subset, 0), words)
        if _ungraded(grade):
            self.ungraded += 1
            return
        texts = []
        for text in (text1, text2):
            if not isinstance(text, str) or not text.strip():
                raise SentEvalError(f"{where}: a text is empty or not a string: {text!r}")
            texts.append(" ".join(text.split()) if self.protocol == "senteval" else text)
        self.text1.append(texts[0])
        self.text2.append(texts[1])
        self.gold.append(_number(grade_where or where, grade))
        self.subset.append(subset)

    def task(self, source: str) -> PairTask:
        """The finished task; raises if a subset, or everything, is missing."""
        present = set(self.subset)
        missing = [] if WHOLE in present else [name for name in SUBSETS[self.name] if name not in present]
        if missing or not self.gold:
            lacks = f"no graded pair of {', '.join(missing)}" if missing else "no graded pair"
            raise SentEvalError(f"{self.name}: {lacks} in {source}; the data is incomplete, fetch it again")
        if self.ungraded:
            logger.info("%s: dropped %d pairs without a grade (%s)", self.name, self.ungraded, source)
        return PairTask(
            name=self.name,
            protocol=self.protocol,
            text1=self.text1,
            text2=self.text2,
            gold=np.array(self.gold, dtype=np.float64),
            subset=self.subset,
            source=source,
            index=np.arange(len(self.gold)),
            total=len(self.gold),
            max_words=self.max_words,
        )


def _ungraded(grade: object) -> bool:
    return grade is None or (isinstance(grade, str) and not grade.strip())


def _number(where: str, grade: object) -> float:
    """A grade as a number from 0 to 5."""
    try:
        if isinstance(grade, bool) or not isinstance(grade, (int, float, str)):
            raise ValueError
        number = float(grade)
    except ValueError:
        raise SentEvalError(f"{where}: the grade is not a number: {grade!r}") from None
    if not (math.isfinite(number) and 0 <= number <= 5):
        raise SentEvalError(f"{where}: the grade is not between 0 and 5: {grade!r}")
    return number


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[str, str]]:
    """(file and line number, text) of each line, of a plain or a gzip'd file.

    Lines end at a line feed only: `str.splitlines` would also cut at characters that occur inside texts.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise SentEvalError(f"{path} is missing; check --data_dir, or fetch the data again") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SentEvalError(f"{path} can't be read ({error}); fetch it again") from error
    lines = raw.removesuffix(b"\n").split(b"\n") if raw else []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            codec = "utf-8-sig" if encoding == "utf-8" and number == 1 else encoding
            yield where, line.decode(codec).removesuffix("\r")
        except UnicodeDecodeError as error:
            raise SentEvalError(f"{where}: not {encoding.upper()} ({error.reason})") from None


def _is_raw(name: str, protocol: str) -> bool:
    return protocol == "mteb" and name in _RAW_IN_MTEB


# JSON Lines


def jsonl_stems(name: str, protocol: str) -> list[str]:
    """The files of a task below the data folder, without `.jsonl` or `.jsonl.gz`."""
    if name == "STSBenchmark":
        return ["stsbenchmark/test"]
    if name == "SICK-R":
        parts = ("train", "trial", "test") if protocol == "mteb" else ("test",)
        return [f"sick/{part}" for part in parts]
    return [f"sts12-16/{name}"]


def jsonl_file(folder: Path, stem: str) -> Path | None:
    """The file of a stem, or None if the folder has none."""
    candidates = [folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl"]
    return next((path for path in candidates if path.is_file()), None)


def _read_jsonl(folder: Path, name: str, protocol: str) -> PairTask | None:
    """The task from JSON Lines, or None if the folder has no such file of it."""
    stems = jsonl_stems(name, protocol)
    found = [jsonl_file(folder, stem) for stem in stems]
    if not any(found):
        return None
    rows = Rows(name, protocol)
    for stem, path in zip(stems, found):
        if path is None:
            raise SentEvalError(
                f"{folder / stem}.jsonl(.gz) is missing; {name} in the {protocol} protocol is "
                f"{' + '.join(stems)}; check --data_dir"
            )
        for where, line in read_lines(path):
            if line.strip():
                _add_object(rows, where, line)
    return rows.task("jsonl: " + ", ".join(str(path) for path in found))


def _add_object(rows: Rows, where: str, line: str) -> None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise SentEvalError(f"{where}: not valid JSON ({error.msg})") from None
    if not isinstance(record, dict):
        raise SentEvalError(f"{where}: not a JSON object")
    subsets = SUBSETS[rows.name]
    first, second = _RAW if _is_raw(rows.name, rows.protocol) else _TOKENISED
    for key in (first, second, "score", *(["subset"] if subsets else [])):
        if key not in record:
            raise SentEvalError(
                f"{where}: no field {key!r}; {rows.name} in the {rows.protocol} protocol reads {first}, {second} "
                "and score" + (" per subset" if subsets else "")
            )
    subset = WHOLE
    if subsets:
        subset = _SHORT_SUBSETS.get(rows.name, {}).get(str(record["subset"]), str(record["subset"]))
        if subset not in subsets:
            raise SentEvalError(f"{where}: {subset!r} is no subset of {rows.name}: {', '.join(subsets)}")
    rows.add(where, subset, record[first], record[second], record["score"])


# The original SentEval files


def _senteval_folder(folder: Path, name: str) -> Path | None:
    inside = {"STSBenchmark": "STS/STSBenchmark", "SICK-R": "SICK"}.get(name, f"STS/{name}-en-test")
    candidates = [folder / inside, folder / "downstream" / inside]
    return next((path for path in candidates if path.is_dir()), None)


def _read_senteval(folder: Path, name: str, protocol: str) -> PairTask | None:
    """The task from SentEval's own files, or None if the folder has none of it."""
    home = _senteval_folder(folder, name)
    if home is None:
        return None
    if _is_raw(name, protocol):
        raise SentEvalError(
            f"{home} holds SentEval's tokenised text, but {name} in the {protocol} protocol is raw; use the "
            f"senteval protocol, or a --data_dir with {jsonl_stems(name, protocol)[0]}.jsonl(.gz), or leave "
            "--data_dir out to read the hub"
        )
    rows = Rows(name, protocol)
    if name == "STSBenchmark":
        _add_table(rows, home / "sts-test.csv", columns=(5, 6, 4), heading=False)
    elif name == "SICK-R":
        _add_table(rows, home / "SICK_test_annotated.txt", columns=(1, 2, 3), heading=True)
    else:
        for subset in SUBSETS[name]:
            _add_subset(rows, home, subset)
    return rows.task(f"senteval: {home}")


def _add_subset(rows: Rows, home: Path, subset: str) -> None:
    texts_file, grades_file = home / f"STS.input.{subset}.txt", home / f"STS.gs.{subset}.txt"
    texts, grades = list(read_lines(texts_file)), list(read_lines(grades_file))
    if len(texts) != len(grades):
        raise SentEvalError(
            f"{texts_file} has {len(texts)} lines but {grades_file.name} has {len(grades)}; fetch both again"
        )
    for (where, line), (grade_where, grade) in zip(texts, grades):
        cells = line.split("\t")
        if len(cells) < 2 and not _ungraded(grade):
            raise SentEvalError(f"{where}: no tab between two texts: {line[:60]!r}")
        rows.add(where, subset, cells[0], cells[min(1, len(cells) - 1)], grade, grade_where)


def _add_table(rows: Rows, path: Path, columns: tuple[int, int, int], heading: bool) -> None:
    """Rows of a tab-separated file; `columns` are those of the two texts and the grade, from 0."""
    first, second, grade = columns
    for number, (where, line) in enumerate(read_lines(path)):
        if heading and number == 0:
            continue
        cells = line.split("\t")
        if len(cells) <= max(columns):
            raise SentEvalError(
                f"{where}: {len(cells)} tab-separated columns, expected at least {max(columns) + 1}: {line[:60]!r}"
            )
        rows.add(where, WHOLE, cells[first], cells[second], cells[grade])


def read_folder(folder: str | Path, name: str, protocol: str) -> PairTask:
    """One whole task from a folder: JSON Lines if it has them, else SentEval's own layout.

    Raises:
        SentEvalError: the folder, the task in it, or a file is missing; a row is malformed (file and line
            named); or the folder has tokenised text only and the protocol's is raw.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SentEvalError(f"--data_dir {folder} is not a folder")
    readers: tuple[Callable[[Path, str, str], PairTask | None], ...] = (_read_jsonl, _read_senteval)
    for read in readers:
        task = read(folder, name, protocol)
        if task is not None:
            return task
    stem = jsonl_stems(name, protocol)[0]
    advice = (
        f"check --data_dir, or fetch the official files: bash scripts/download_data.sh {folder}"
        if protocol == "senteval"
        else "check --data_dir, or leave it out to read the hub"
    )
    raise SentEvalError(
        f"{name} ({protocol} protocol) is missing: {folder} has neither {stem}.jsonl(.gz) nor SentEval's "
        f"files for it; {advice}"
    )
