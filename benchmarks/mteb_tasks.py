"""mteb's tasks by name or benchmark, and where the data of each comes from: the user's folder, the hub, its cache."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from benchmarks import mteb_local
from common.errors import InputError
from common.io import sha256_of
from common.model_names import hub_reachable
from common.reading import data_root

if TYPE_CHECKING:
    from mteb import AbsTask

SUITES = Path(__file__).with_name("mteb_suites.yaml")
# Where a task is taken from when only its name is given: they fix splits and the English subset.
BENCHMARKS = ("MTEB(eng, v1)", "MTEB(eng, v2)")


@dataclass(frozen=True)
class Planned:
    """A task whose data is at hand.

    Attributes:
        task: of mteb.
        parts: the tasks that it is made of (CQADupstackRetrieval has twelve); itself where it is one.
        local: part -> its local files; {} where it is read from the hub.
        place: "local", "hub", or "cache" (of the hub, which does not answer).
    """

    task: AbsTask
    parts: tuple[AbsTask, ...]
    local: dict[str, mteb_local.LocalTask]
    place: Literal["local", "hub", "cache"]

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task.metadata.name)

    @property
    def data(self) -> dict[str, Any]:
        """What a result says about its data."""
        splits = {"splits": list(self.task.eval_splits), "subsets": list(self.task.hf_subsets)}
        if self.place == "local":
            found = list(self.local.values())
            hashes = [local.fingerprint for local in found]
            return {
                "source": "; ".join(local.source for local in found),
                "sha256": hashes[0] if len(hashes) == 1 else sha256_of(hashes),
                "complete": all(local.complete for local in found),
                "differs": "; ".join(sorted({local.differs for local in found if local.differs})) or None,
                "order": "; ".join(sorted({local.order for local in found if local.order})) or None,
                **splits,
            }
        sets = [f"{p.metadata.dataset['path']}@{p.metadata.revision}" for p in self.parts]
        source = {"source": "hub: " + ", ".join(sets), "sha256": sha256_of(sets)}
        return {**source, "complete": True, "differs": None, "order": None, **splits}

    @contextlib.contextmanager
    def loaded(self) -> Iterator[AbsTask]:
        """The task with its data (each part of an aggregate is loaded by mteb when it is run), unloaded at the end.

        Raises:
            InputError: the data can't be read.
        """
        try:
            for part in self.parts:
                if part.metadata.name in self.local:
                    self.local[str(part.metadata.name)].serve(part)
            with offline() if self.place == "cache" else contextlib.nullcontext():
                if self.place != "local" and len(self.parts) == 1:
                    _load(self.task)
                yield self.task
        finally:
            for part in self.parts:
                part.unload_data()


def get_tasks(benchmark: str | None, names: Sequence[str]) -> list[AbsTask]:
    """The tasks of a benchmark, those of them that are named, or named ones of any benchmark.

    Raises:
        InputError: nothing is asked for, or there is no such benchmark or task; the nearest is named.
    """
    if not benchmark and not names:
        raise InputError(
            f"missing: --tasks, or --benchmark ({', '.join([*BENCHMARKS, *suites()])}, or another of mteb)"
        )
    if not benchmark:
        return [_one_task(name) for name in names]
    if benchmark in suites():
        tasks = [_one_task(name) for name in suites()[benchmark]]
    else:
        tasks = list(_benchmark(benchmark).tasks)
    if names:
        known = {str(task.metadata.name): task for task in tasks}
        unknown = [name for name in names if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"--tasks {unknown[0]}: is no task of {benchmark}{hint}")
        tasks = [known[name] for name in dict.fromkeys(names)]
    return tasks


def suites() -> dict[str, list[str]]:
    """Our own sets of tasks."""
    content = yaml.safe_load(SUITES.read_text(encoding="utf-8"))
    return {name: entry["tasks"] for name, entry in content.items()}


def plan(tasks: Sequence[AbsTask], data_dir: Path | None, *, strict: bool) -> tuple[list[Planned], list[str]]:
    """Where each task's data is; and the names of those that are nowhere. Reads no data.

    Args:
        tasks: of `get_tasks`.
        data_dir: the user's folder; None: that which EMBED_DATA names, if any. What it lacks comes from the hub.
        strict: a task without data is an error.

    Raises:
        InputError: a task without data (`strict`), or no task with data.
    """
    folder = data_root(data_dir)
    found: list[Planned] = []
    missing: list[str] = []
    for task in tasks:
        planned = _plan_one(task, folder)
        if planned:
            found.append(planned)
            continue
        missing.append(str(task.metadata.name))
        if strict or len(missing) == len(tasks):
            where = f"not in --data_dir {folder}" if folder else "no --data_dir is given"
            raise InputError(f"{missing[0]}: no data: {where}, and the hub does not answer; give --data_dir with "
                             f"{missing[0]}'s files (python -m benchmarks mteb --help)")  # fmt: skip
    return found, missing


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it `datasets` and the hub's library read only their caches: no minutes of retries."""
    import datasets.config
    import huggingface_hub.constants

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before):
            place.HF_HUB_OFFLINE = value


def _benchmark(name: str) -> Any:
    import mteb

    try:
        return mteb.get_benchmark(name)
    except KeyError:
        known = [*suites(), *(b.name for b in mteb.get_benchmarks())]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"for example {', '.join([*BENCHMARKS, *suites()])}"
        raise InputError(f"--benchmark {name}: mteb has no such benchmark; {hint}") from None


def _one_task(name: str) -> AbsTask:
    import mteb

    for benchmark in BENCHMARKS:
        for task in mteb.get_benchmark(benchmark).tasks:
            if task.metadata.name == name:
                return task
    try:
        return mteb.get_task(name, languages=["eng"])
    except KeyError:
        known = [str(task.metadata.name) for task in mteb.get_tasks()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"--tasks {name}: mteb has no such task{hint}") from None


def _plan_one(task: AbsTask, folder: Path | None) -> Planned | None:
    parts = tuple(getattr(task, "tasks", None) or (task,))
    if folder is not None:
        local = {str(part.metadata.name): found for part in parts if (found := mteb_local.find(part, folder))}
        if len(local) == len(parts):
            return Planned(task, parts, local, "local")
        if local:
            absent = next(p.metadata.name for p in parts if p.metadata.name not in local)
            raise InputError(f"{task.metadata.name}: --data_dir {folder} has some of its parts, but not {absent}")
    if hub_reachable():
        return Planned(task, parts, {}, "hub")
    return Planned(task, parts, {}, "cache") if all(map(_is_cached, parts)) else None


def _is_cached(task: AbsTask) -> bool:
    """Whether the caches of the hub have something of the task's data set."""
    import datasets.config
    import huggingface_hub.constants

    path = str(task.metadata.dataset["path"])
    places = (
        Path(huggingface_hub.constants.HF_HUB_CACHE) / f"datasets--{path.replace('/', '--')}",
        Path(datasets.config.HF_DATASETS_CACHE) / path.replace("/", "___"),
    )
    return any(place.is_dir() for place in places)


def _load(task: AbsTask) -> None:
    try:
        task.load_data()
    except Exception as error:  # errors of many libraries; each means: no data
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{task.metadata.name}: can't be read from the hub data set "
                         f"{task.metadata.dataset['path']} ({reason}); give --data_dir") from error  # fmt: skip
