"""Training data in several sets, a file each, with instructions per set: E5's public part ("echo-data") and alike."""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from common.data import Row, RowList, columns_of, load_rows
from common.errors import InputError
from common.model_names import hub_reachable
from common.reading import data_root

logger = logging.getLogger(__name__)

SETS = Path(__file__).with_name("e5_sets.yaml")
HUB = "liuqi6777/echo-data"  # a copy of the released files, under their names
SUFFIXES = (".jsonl", ".jsonl.gz")
INSTRUCTIONS = ("instruction", "document_instruction")
# As an instruction stands before a text at inference, where all of LLM2Vec's end in a colon.
AS_EVALUATED, AS_RELEASED = "{instruction}:", "{instruction};"


@dataclasses.dataclass(frozen=True)
class E5Set:
    """What is known of a data set: its instructions, which of them documents have too, the share to take."""

    instructions: tuple[str, ...] = ()
    symmetric: tuple[bool, ...] = ()
    share: float = 1.0

    def said_of(self, index: int, *, documents: bool) -> dict[str, str]:
        """The instructions of row number `index` of the whole file; of two, rows take turns."""
        if not self.instructions:
            return {}
        turn = index % len(self.instructions)
        both = documents and bool(self.symmetric) and self.symmetric[turn]
        keys = INSTRUCTIONS if both else INSTRUCTIONS[:1]
        return dict.fromkeys(keys, self.instructions[turn])


@functools.cache
def e5_sets() -> dict[str, E5Set]:
    """E5's sets, in their order."""
    read = yaml.safe_load(SETS.read_text(encoding="utf-8"))
    return {
        name: E5Set(tuple(one["instructions"]), tuple(one.get("symmetric", ())), one.get("share", 1.0))
        for name, one in read.items()
    }


def data_folder(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The folder of that name, or under `data_dir` (or `EMBED_DATA`); None: there is none."""
    root = data_root(data_dir)
    candidates = [Path(name), *([root / name] if root else [])]
    return next((path for path in candidates if path.is_dir()), None)


def download_e5() -> Path:
    """E5's data from the hub, several GB once, as a local folder.

    Raises:
        InputError: no hub.
    """
    if not hub_reachable():
        raise InputError("the hub does not answer, and E5's data are there; give --train_name_or_path")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(HUB, repo_type="dataset", allow_patterns=[f"*{suffix}" for suffix in SUFFIXES]))


def folder_rows(
    folder: Path,
    *,
    pattern: str | None = None,
    doc_instruction: Literal["released", "paper"] = "released",
    shares: bool = False,
    rename: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int = 42,
) -> RowList:
    """The rows of all files of a folder, each with the name of its file as `dataset`.

    Files under the names of E5's sets get E5's instructions; rows of others may bring their own.

    Args:
        folder: with one JSONL file per data set (.gz allowed); rows of pairs or triplets.
        pattern: how instructions are written; None: E5's as `AS_EVALUATED`, rows' own as they are.
        doc_instruction: "paper": documents of E5's symmetric sets have it too.
        shares: take E5's shares of its sets, drawn by `seed`.
        rename: old column -> new column, applied first.
        limit: the first rows only, as many of each set.

    Raises:
        InputError: no such file, or a bad row (with file and line).
    """
    files = {path.name.split(".")[0]: path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)}
    known = e5_sets()
    if not files:
        raise InputError(f"{folder}: holds no data set ({' or '.join(SUFFIXES)})")
    missing = [name for name in known if name not in files]
    others = [name for name in files if name not in known]
    if missing and len(missing) < len(known):
        logger.warning("%s: of E5's sets these are missing: %s", folder, ", ".join(missing))
    if others:
        logger.warning("%s: not of E5, so without E5's instructions: %s", folder, ", ".join(others))
    each = None if limit is None else max(1, limit // len(files))
    rows: list[Row] = []
    for name in [*(name for name in known if name in files), *others]:
        one = known.get(name, E5Set())
        of_set = load_rows(str(files[name]), rename=rename, limit=each)
        assert isinstance(of_set, RowList)  # a local file
        if rows and of_set.columns != columns_of(rows[0]):
            columns = ", ".join(of_set.columns)
            raise InputError(f"{files[name]}: columns {columns}, but sets before have {', '.join(columns_of(rows[0]))}")
        numbers = range(len(of_set))
        if shares:
            drawn = random.Random(f"{seed}-{name}").sample(numbers, max(1, round(one.share * len(of_set))))
            numbers = sorted(drawn)  # type: ignore[assignment]
        turns = [
            _written(one.said_of(turn, documents=doc_instruction == "paper"), pattern or AS_EVALUATED)
            for turn in range(len(one.instructions) or 1)
        ]
        for number in numbers:
            own = _written(of_set.rows[number], pattern) if pattern else of_set.rows[number]
            rows.append({**turns[number % len(turns)], **own, "dataset": name})
    return RowList(rows[:limit], str(folder))


def with_pattern(rows: RowList, pattern: str) -> RowList:
    """The rows with their instructions written as `pattern` says."""
    return RowList((_written(row, pattern) for row in rows.rows), rows.source)


def _written(row: Row, pattern: str) -> Row:
    return {name: pattern.replace("{instruction}", v) if name in INSTRUCTIONS else v for name, v in row.items()}
