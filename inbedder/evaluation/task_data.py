"""The data of the tasks: a file below --data_dir, else the hub.

Of a data set `BrandonZYW/NYTClustering` these files are looked for, in any format of `common.reading`, `.gz` too:

    DATA_DIR/NYTClustering/SUBSET/test.*     (or DATA_DIR/NYTClustering/SUBSET.*, where it has subsets)
    DATA_DIR/NYTClustering/test.*            (where it has none)

Three sets are also read in the layouts that other projects publish them in (`local` in tasks.yaml):

* columns: a text and a label column, as they are.
* fewrel: the tokens, a blank between any two, and behind the sentence its two entities, with a comma between them. (The
  paper appends them too; how it parts them is not known.)
* subjects: subject lines of 20 Newsgroups without "Re:", the text that MTEB clusters. MTEB has ten sets, drawn from all
  posts, and takes their mean; this is one set, of the test half, so its numbers are near MTEB's and not equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.io import sha256_of
from common.model_names import first_line, hub_reachable
from common.reading import ROW_FORMATS, data_root, read_rows
from inbedder.evaluation.tasks import RUN_HERE, Task

SPLIT = "test"
REPLY = re.compile(r"^\s*(re|fwd?)\s*:\s*", re.IGNORECASE)

Row = Mapping[str, Any]


class MissingData(InputError):
    """A set that is neither below --data_dir nor on a hub that answers."""


@dataclass(frozen=True)
class Clustering:
    """One set of a clustering task: texts and their labels."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Triplets:
    """Anchors, and for each what should be near and what far."""

    anchor: list[str]
    positive: list[str]
    negative: list[str]


@dataclass(frozen=True)
class Pairs:
    """Pairs with a gold score; `instruction` is one per pair, or empty where the task has one."""

    text1: list[str]
    text2: list[str]
    gold: list[float]
    instruction: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reranking:
    """Queries (each one text or several), and what is relevant to them and what is not."""

    query: list[list[str]]
    positive: list[list[str]]
    negative: list[list[str]]
    dropped: int = 0  # samples without a positive or without a negative


Part = Clustering | Triplets | Pairs | Reranking


@dataclass(frozen=True)
class TaskData:
    """What a task is scored on.

    Attributes:
        parts: one per subset; of MTEB's clustering tasks one per row.
        source: a file, or the hub id with its revision.
        protocol: "published", or what differs from it.
        total: items before `limit`.
    """

    parts: list[Part]
    source: str
    protocol: str
    total: int

    @property
    def size(self) -> int:
        """Items that are scored."""
        return sum(size_of(part) for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that is scored."""
        return sha256_of([[type(part).__name__, vars(part)] for part in self.parts])


def size_of(part: Part) -> int:
    """Texts, triplets, pairs or queries of a part."""
    return len(next(iter(vars(part).values())))


def read_task(task: Task, data_dir: str | Path | None = None, *, limit: int | None = None, seed: int = 0) -> TaskData:
    """The data of a task.

    Args:
        task: of `inbedder.evaluation.tasks`.
        data_dir: the user's folder; None: `EMBED_DATA`.
        limit: a seeded sample of so many items per part.
        seed: of that sample.

    Raises:
        MissingData: it is nowhere, or of a kind that is not run here; says where it was looked for.
        InputError: a broken file; names it and the row.
    """
    if task.kind not in RUN_HERE:
        raise MissingData(f"a {task.kind} task; only its instruction is kept here, run it with mteb")
    root = data_root(data_dir)
    local = dict(task.local)
    own = root / local["file"] if root and local else None
    protocol = "published"
    if own is not None and own.is_file():
        parts: list[Part] = [_layout(own, local)]
        source = local["file"]
        if task.ours:
            protocol = "ours"
        elif local["layout"] != "columns":
            protocol = f"ours: layout {local['layout']}"
    else:
        parts, source = [], ""
        for subset in task.subsets or ("",):
            rows, source = _published_rows(task, subset, Path(root) if root else None, own)
            parts += _parts(task, rows, source)
    total = sum(size_of(part) for part in parts)
    if limit is not None:
        parts = [_sample(part, limit, seed) for part in parts]
    return TaskData(parts, source, protocol, total)


# -- where the rows are ---------------------------------------------------------------------------------------


def _published_rows(task: Task, subset: str, root: Path | None, own: Path | None) -> tuple[Iterable[Row], str]:
    """The rows of a published set, and where they are from."""
    if task.hub is not None and root is not None:
        folder = root / task.hub.rpartition("/")[2]
        stems = [folder / subset / SPLIT, folder / subset] if subset else [folder / SPLIT]
        for stem in stems:
            for file in (Path(f"{stem}{ending}{zipped}") for ending in ROW_FORMATS for zipped in ("", ".gz")):
                if file.is_file():
                    return (row for _, row in read_rows(file)), str(file.relative_to(root))
    looked = [] if root is None else [str(own.relative_to(root))] if own is not None else []
    if task.hub is not None and root is not None:
        looked.append(f"{task.hub.rpartition('/')[2]}/")
    where = f"no {' or '.join(looked)} in {root}" if looked else "no --data_dir"
    if task.hub is None:
        raise MissingData(f"{where}; it is not on the hub")
    if not hub_reachable():
        raise MissingData(f"{where}, and the hub ({task.hub}) does not answer")
    from datasets import load_dataset

    try:
        rows = load_dataset(task.hub, subset or None, split=SPLIT, revision=task.revision)
    except (OSError, ValueError) as error:
        raise MissingData(f"{where}; {task.hub} on the hub: {first_line(error)}") from error
    return rows, f"{task.hub}@{task.revision}"


def _layout(file: Path, local: Mapping[str, str]) -> Clustering:
    """A file in the layout of another project."""
    text = {"columns": _plain_text, "fewrel": _with_entities, "subjects": _subject}[local["layout"]]
    label = local.get("label", "cluster")
    texts, labels = [], []
    for number, row in read_rows(file):
        try:
            texts.append(text(row))
            labels.append(str(row[label]))
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"{file}:{number}: not a row of this set ({type(error).__name__}: {error})") from error
    return Clustering(texts, labels)


def _plain_text(row: Row) -> str:
    return str(row["text"])


def _with_entities(row: Row) -> str:
    """`sentence head, tail`; the entities as the sentence spells them (the file has them in lower case, too)."""
    tokens = row["tokens"]
    head, tail = (" ".join(tokens[i] for i in row[side][0]) for side in ("h", "t"))
    return " ".join(f"{' '.join(tokens)} {head}, {tail}".split())


def _subject(row: Row) -> str:
    subject = str(row["subject"])
    while REPLY.match(subject):
        subject = REPLY.sub("", subject)
    return subject.strip()


# -- rows to parts --------------------------------------------------------------------------------------------


def _parts(task: Task, rows: Iterable[Row], source: str) -> list[Part]:
    make: Callable[[Iterable[Row]], Iterator[Part]] = {
        "clustering": _clusterings,
        "triplets": _triplets,
        "sts": _pairs,
        "reranking": _rerankings,
    }[task.kind]
    try:
        return list(make(rows))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not the columns of {task.name} ({type(error).__name__}: {error})") from error


def _clusterings(rows: Iterable[Row]) -> Iterator[Part]:
    """MTEB's rows are whole sets (sentences, labels); those of the others one text (text, cluster)."""
    texts: list[str] = []
    labels: list[str] = []
    for row in rows:
        if "sentences" in row:
            yield Clustering(list(row["sentences"]), [str(label) for label in row["labels"]])
        else:
            texts.append(str(row["text"]))
            labels.append(str(row["cluster"]))
    if texts:
        yield Clustering(texts, labels)


def _triplets(rows: Iterable[Row]) -> Iterator[Part]:
    columns = [(str(row["anchor"]), str(row["positive"]), str(row["negative"])) for row in rows]
    yield Triplets(*(list(column) for column in zip(*columns)))


def _pairs(rows: Iterable[Row]) -> Iterator[Part]:
    items = list(rows)
    instruction = [str(row["instruction"]) for row in items if row.get("instruction") is not None]
    if instruction and len(instruction) < len(items):
        raise ValueError("some rows have an instruction, others none")
    yield Pairs(
        [str(row["sentence1"]) for row in items],
        [str(row["sentence2"]) for row in items],
        [float(row["score"]) for row in items],
        instruction,
    )


def _rerankings(rows: Iterable[Row]) -> Iterator[Part]:
    query, positive, negative, dropped = [], [], [], 0
    for row in rows:
        if not row["positive"] or not row["negative"]:
            dropped += 1
            continue
        query.append([row["query"]] if isinstance(row["query"], str) else list(row["query"]))
        positive.append(list(row["positive"]))
        negative.append(list(row["negative"]))
    yield Reranking(query, positive, negative, dropped)


def _sample(part: Part, limit: int, seed: int) -> Part:
    """A seeded sample of a part's items, in their order."""
    size = size_of(part)
    if size <= limit:
        return part
    kept = sorted(np.random.default_rng(seed).permutation(size)[:limit].tolist())
    columns: dict[str, Any] = {
        k: [v[i] for i in kept] if isinstance(v, list) and v else v for k, v in vars(part).items()
    }
    return type(part)(**columns)
