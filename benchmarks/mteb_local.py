"""mteb's tasks from local files: fills a task object with what lies below the user's data folder.

Two layouts are read: the files named in `mteb_local.yaml`, and for any task a folder of its name in mteb's own
columns, as its data set on the hub has them:

    DATA_DIR/TASK/SPLIT.jsonl                                     most tasks (SUBSET.SPLIT.jsonl where it has subsets)
    DATA_DIR/TASK/corpus.jsonl  queries.SPLIT.jsonl  qrels.SPLIT.jsonl    retrieval: id, title, text; qid, did, rel

All files may be .jsonl, .json, .csv, .tsv (each also .gz) or .parquet.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from common.errors import InputError
from common.io import sha256_file, sha256_of
from common.reading import ROW_FORMATS, read_rows
from senteval import SentEvalError, load_task

if TYPE_CHECKING:
    from mteb import AbsTask

logger = logging.getLogger(__name__)

LAYOUTS = Path(__file__).with_name("mteb_local.yaml")
SUFFIXES = [*(s + z for s in ROW_FORMATS for z in ("", ".gz") if not (s == ".parquet" and z))]
WHOLE = "default"  # mteb's name of the only subset of a task that has none


@dataclass(frozen=True)
class LocalTask:
    """A task whose data lies in local files.

    Attributes:
        name: of the task.
        files: all that are read.
        differs: how the data differ from mteb's own; None where they don't.
        order: what of the sampling may differ though the rows are the same.
        fill: puts the data into the task object.
        complete: False where items are missing, or are others than mteb's.
    """

    name: str
    files: tuple[Path, ...]
    differs: str | None
    order: str | None
    fill: Callable[[AbsTask], None]
    complete: bool = True

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files and how they are read."""
        return sha256_of([self.differs or "", *(sha256_file(file) for file in self.files)])

    @property
    def source(self) -> str:
        """For the result file."""
        return "local files: " + ", ".join(str(file) for file in self.files)

    def serve(self, task: AbsTask) -> None:
        """Give the task this data; its revision becomes "local-HASH", so that no cache takes it for mteb's own.

        Raises:
            InputError: a row or a file is not as it should be; names them.
        """
        self.fill(task)
        task.data_loaded = True
        data = {**task.metadata.dataset, "revision": f"local-{self.fingerprint[:12]}"}
        task.metadata = task.metadata.model_copy(update={"dataset": data})
        if self.differs:
            logger.warning("%s: local data: %s", self.name, self.differs)


def find(task: AbsTask, folder: Path) -> LocalTask | None:
    """The task's local files, or None where the folder has none of them.

    Raises:
        InputError: no such folder, or some of the files are there and others are not.
    """
    if not folder.is_dir():
        raise InputError(f"--data_dir {folder}: is not a folder")
    name = task.metadata.name
    layout = layouts().get(name)
    if layout:
        found = _find_layout(task, folder, layout)
        if found:
            return found
    return _find_own_folder(task, folder / name) if (folder / name).is_dir() else None


@cache
def layouts() -> dict[str, dict[str, Any]]:
    """The tasks of `mteb_local.yaml`."""
    return yaml.safe_load(LAYOUTS.read_text(encoding="utf-8"))


def _find_layout(task: AbsTask, folder: Path, layout: Mapping[str, Any]) -> LocalTask | None:
    name, splits = task.metadata.name, list(task.eval_splits)
    told = {"differs": layout.get("differs"), "order": layout.get("order"), "complete": layout.get("complete", True)}
    if "protocol" in layout:
        return _find_pairs(name, folder, layout["protocol"], told)
    if "corpus" in layout:
        stems = [layout["corpus"], *(layout[part].format(split=s) for s in splits for part in ("queries", "qrels"))]
    else:
        subsets = layout.get("subsets") or {WHOLE: layout["splits"]}
        stems = [s for sub in _wanted(task, subsets) for files in subsets[sub].values() for s in files]
    files = _files(folder, stems, name)
    if files is None:
        return None

    def fill(task: AbsTask) -> None:
        if "corpus" in layout:
            corpus = files[layout["corpus"]]
            parts = {
                s: (files[layout["queries"].format(split=s)], files[layout["qrels"].format(split=s)]) for s in splits
            }
            task.dataset = {WHOLE: _retrieval(corpus, parts)}
            return
        tables = {
            sub: {split: _table([files[s] for s in stems], layout["columns"]) for split, stems in subsets[sub].items()}
            for sub in _wanted(task, subsets)
        }
        if "sets" in layout:
            tables = {sub: {s: _samples(t, **layout["sets"]) for s, t in of.items()} for sub, of in tables.items()}
        _set_tables(task, {sub: _numbered(of) for sub, of in tables.items()})

    return LocalTask(name, tuple(files.values()), fill=fill, **told)


def _find_pairs(name: str, folder: Path, protocol: str, told: dict[str, Any]) -> LocalTask | None:
    """A graded-pair task, read by the project's own STS reader."""
    from senteval.sources import jsonl_stems

    files = _files(folder, jsonl_stems(name, protocol), name)
    if files is None:
        return None

    def fill(task: AbsTask) -> None:
        try:
            pairs = load_task(name, protocol, folder)
        except SentEvalError as error:
            raise InputError(str(error)) from error
        columns = {"sentence1": pairs.text1, "sentence2": pairs.text2, "score": pairs.gold.tolist()}
        _set_tables(task, {WHOLE: dict.fromkeys(task.eval_splits, columns)})

    return LocalTask(name, tuple(files.values()), fill=fill, **told)


def _find_own_folder(task: AbsTask, folder: Path) -> LocalTask:
    """The layout for any task: a folder of its name, with mteb's columns."""
    from mteb.abstasks import AbsTaskRetrieval

    name, splits = task.metadata.name, list(task.eval_splits)
    subsets = list(task.hf_subsets) if task.metadata.is_multilingual else [WHOLE]
    prefix = {sub: f"{sub}." if task.metadata.is_multilingual else "" for sub in subsets}
    if isinstance(task, AbsTaskRetrieval):
        parts = ["corpus", *(f"{part}.{split}" for split in splits for part in ("queries", "qrels"))]
        stems = [f"{prefix[sub]}{part}" for sub in subsets for part in parts]
    else:
        train = [task.train_split] if hasattr(task, "train_split") else []
        splits = list(dict.fromkeys([*train, *splits]))
        stems = [f"{prefix[sub]}{split}" for sub in subsets for split in splits]
    files = _files(folder, stems, name)
    if files is None:
        raise InputError(f"{folder}: has no files of {name}; expected {', '.join(stems)} (.jsonl, .csv, .parquet ...)")

    def fill(task: AbsTask) -> None:
        if isinstance(task, AbsTaskRetrieval):
            task.dataset = {
                sub: _retrieval(
                    files[f"{prefix[sub]}corpus"],
                    {s: (files[f"{prefix[sub]}queries.{s}"], files[f"{prefix[sub]}qrels.{s}"]) for s in splits},
                )
                for sub in subsets
            }
        else:
            _set_tables(task, {sub: {s: _table([files[f"{prefix[sub]}{s}"]]) for s in splits} for sub in subsets})
        task.dataset_transform()

    return LocalTask(name, tuple(files.values()), None, None, fill)


def _wanted(task: AbsTask, subsets: Mapping[str, Any]) -> list[str]:
    """Those subsets of the task that a layout has.

    Raises:
        InputError: a subset that it does not have.
    """
    wanted = list(subsets) if list(subsets) == [WHOLE] else list(task.hf_subsets)
    for name in wanted:
        if name not in subsets:
            raise InputError(f"{task.metadata.name}: no local files of its subset {name}; known: {', '.join(subsets)}")
    return wanted


def _files(folder: Path, stems: Sequence[str], name: str) -> dict[str, Path] | None:
    """stem -> file; None where there is none at all."""
    found = {s: next((p for x in SUFFIXES if (p := folder / f"{s}{x}").is_file()), None) for s in stems}
    there = {stem: path for stem, path in found.items() if path is not None}
    if not there:
        return None
    if missing := [stem for stem, path in found.items() if path is None]:
        raise InputError(f"{name}: {folder / missing[0]}.jsonl(.gz) is missing; its other files are there; fetch it")
    return there


def _values(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row; InputError with file and line where one is missing."""
    for number, row in read_rows(path):
        absent = [column for column in columns if row.get(column) is None]
        if absent:
            raise InputError(f"{path}:{number}: no {absent[0]}; its columns are {', '.join(row)}")
        yield tuple(row[column] for column in columns)


def _table(paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> dict[str, list[Any]]:
    """The rows of some files as columns; `columns`: new name -> name in the files, None: all as they are."""
    if columns is None:
        names = list(next(iter(read_rows(paths[0])))[1])
        columns = {name: name for name in names}
    rows = [row for path in paths for row in _values(path, list(columns.values()))]
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def _samples(
    table: Mapping[str, list[Any]], *, number: int, size: int, seed: int, strip: str, shortest: int, longest: int
) -> dict[str, list[Any]]:
    """Seeded samples of the rows without replacement, one row of lists each, as mteb's clustering tasks hold them.

    `strip` goes from the texts' start; texts that are then shorter or longer than the limits (characters) go.
    """
    names = list(table)
    texts = [re.sub(strip, "", text).strip() for text in table[names[0]]]
    kept = [i for i, text in enumerate(texts) if shortest <= len(text) <= longest]
    generator = np.random.default_rng(seed)
    picks = [[kept[j] for j in generator.permutation(len(kept))[:size]] for _ in range(number)]
    columns = {**table, names[0]: texts}
    return {name: [[columns[name][i] for i in pick] for pick in picks] for name in names}


def _numbered(splits: Mapping[str, dict[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
    """The splits of a classification task with its labels as numbers, in their order, as mteb's own data have them."""
    names = sorted({label for table in splits.values() for label in table.get("label", ()) if isinstance(label, str)})
    if not names:
        return dict(splits)
    numbers = {name: number for number, name in enumerate(names)}
    return {split: {**table, "label": [numbers[x] for x in table["label"]]} for split, table in splits.items()}


def _set_tables(task: AbsTask, tables: Mapping[str, Mapping[str, Mapping[str, list[Any]]]]) -> None:
    from datasets import Dataset, DatasetDict

    made = {
        sub: DatasetDict({split: Dataset.from_dict(dict(columns)) for split, columns in of.items()})
        for sub, of in tables.items()
    }
    task.dataset = made if list(made) != [WHOLE] else made[WHOLE]


def _retrieval(corpus: Path, parts: Mapping[str, tuple[Path, Path]]) -> dict[str, Any]:
    """split -> what mteb calls RetrievalSplitData."""
    from datasets import Dataset

    rows = [(row, number) for number, row in read_rows(corpus)]
    for row, number in rows:
        if row.get("id") is None or row.get("text") is None:
            raise InputError(f"{corpus}:{number}: no id or no text; its columns are {', '.join(row)}")
    documents = Dataset.from_dict({
        "id": [str(row["id"]) for row, _ in rows],
        "title": [row.get("title") or "" for row, _ in rows],
        "text": [row["text"] for row, _ in rows],
    })  # fmt: skip
    known = set(documents["id"])
    splits: dict[str, Any] = {}
    for split, (queries, qrels) in parts.items():
        relevant: dict[str, dict[str, int]] = {}
        for query, document, grade in _values(qrels, ("qid", "did", "rel")):
            relevant.setdefault(str(query), {})[str(document)] = int(grade)
        pairs = [(str(i), text) for i, text in _values(queries, ("id", "text")) if str(i) in relevant]
        if not pairs:
            raise InputError(f"{queries}: none of its ids stands in {qrels}")
        lost = sum(d not in known for of in relevant.values() for d in of)
        if lost:
            logger.warning("%s: %d judged documents are not in %s; they count as not found", qrels, lost, corpus)
        splits[split] = {
            "corpus": documents,
            "queries": Dataset.from_dict({"id": [i for i, _ in pairs], "text": [t for _, t in pairs]}),
            "relevant_docs": {i: relevant[i] for i, _ in pairs},
            "top_ranked": None,
        }
    return splits
