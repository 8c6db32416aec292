"""What a report is made of: result folders, studies, layer curves and few-shot curves, found by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import study_tables
from benchmarks.comparison import entries_of
from benchmarks.study_summary import Line, summarise
from common.errors import InputError
from common.io import read_json

KINDS = ("study.json", "layers.json")
OWN_FILES = {"settings.json", "cell.json", "plan.json", "train.json", "time.json", "training.json"}


@dataclass
class Inputs:
    """What was found.

    Attributes:
        documents: one per table: a study, or the result folders of one suite; as `study_summary.summarise` gives it.
        layers: (folder, content of its layers.json).
        fewshot: (folder, content of its study.json).
    """

    documents: list[dict[str, Any]] = field(default_factory=list)
    layers: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    fewshot: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)


def read_inputs(paths: Sequence[Path], *, baseline: Path | None = None, samples: int = 1000) -> Inputs:
    """Everything under the given paths.

    Args:
        paths: folders of results, of studies, of layer curves, of few-shot curves, or folders of such.
        baseline: a result folder that the others of its suite are held against (a study has its own baseline).
        samples: bootstrap resamples of the result folders.

    Raises:
        InputError: a path that is missing, or that holds no result.
    """
    inputs, folders = Inputs(), []
    for path in [*([baseline] if baseline else []), *paths]:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; name result folders, or folders of these")
        found = list(_found(path))
        if not found:
            raise InputError(f"{path}: holds no result (TASK.json, study.json or layers.json)")
        for folder, kind, content in found:
            if kind == "study":
                inputs.documents.append(content)
            elif kind == "layers":
                inputs.layers.append((folder, content))
            elif kind == "fewshot":
                inputs.fewshot.append((folder, content))
            else:
                folders.append(folder)
    inputs.documents += _documents(folders, baseline, samples)
    return inputs


def _found(path: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """(folder, kind, content) of what a path holds; below a folder that is none of the kinds, what its folders hold."""
    files = [path] if path.is_file() else [path / name for name in KINDS if (path / name).is_file()]
    for file in files:
        content = read_json(file)
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind not in ("study", "layers", "fewshot"):
            raise InputError(f"{file}: is no study, layer or few-shot result (kind {kind!r})")
        yield file.parent, kind, content
    if files or not path.is_dir():
        return
    if any(_is_result(file) for file in sorted(path.glob("*.json"))):
        yield path, "results", {}
        return
    for child in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        yield from _found(child)


def _is_result(file: Path) -> bool:
    if file.name.startswith(".") or file.name in OWN_FILES:
        return False
    content = read_json(file)
    return isinstance(content, dict) and {"schema", "task", "suite", "score"} <= content.keys()


def _documents(folders: Sequence[Path], baseline: Path | None, samples: int) -> list[dict[str, Any]]:
    """A document per suite, protocol and limit."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for entry in entries_of(folders) if folders else []:
        limits = {result.limit for result in entry.results.values()}
        key = (entry.any.suite, entry.any.protocol, max((n or 0 for n in limits), default=0))
        groups.setdefault(key, []).append(Line(entry.label, (entry.folder,), about=entry.any.system))
    documents = []
    for (suite, protocol, limit), lines in groups.items():
        base = next((ln.name for ln in lines if baseline and ln.folders[0].resolve() == baseline.resolve()), None)
        document = summarise(lines, baseline=base if len(lines) > 1 else None, samples=samples)
        what = f"at most {limit} items per task" if limit else "all items"
        title = f"Suite {suite}, protocol {protocol}: {document['metric']} x 100, {what}"
        document |= {"kind": "results", "title": title}
        documents.append(document | {"notes": study_tables.notes_of(document)})
    return documents
