"""AIR-Bench's data sets and their data, by means of its own package (pip install air-benchmark), which is optional."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.errors import InputError
from common.flags import flag
from common.reading import data_root

FAMILY = "AIR-Bench"
PAPER_VERSION = "AIR-Bench_24.04"  # what --benchmark AIR-Bench stands for: the one of the published rows


_flag = partial(flag, group="AIR-Bench")


@dataclass(kw_only=True)
class AirBenchFlags:
    """Which data sets of AIR-Bench."""

    task_types: list[str] = _flag((), "qa, long-doc; default: both")
    domains: list[str] = _flag((), "such as wiki law arxiv; default: all")
    languages: list[str] = _flag(("en",), "such as en zh")
    splits: list[str] = _flag((), "dev (of AIR-Bench_24.05: has public judgements), test; default: all")


@dataclass(frozen=True)
class AirSet:
    """A data set of AIR-Bench.

    Attributes:
        version: of the benchmark.
        task_type, domain, language, dataset: what the package knows it by.
        splits: those that are asked for.
    """

    version: str
    task_type: str
    domain: str
    language: str
    dataset: str
    splits: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people and files."""
        return f"{self.repository}_{self.dataset}"

    @property
    def repository(self) -> str:
        """Its data on the hub, below AIR-Bench/."""
        return f"{self.task_type}_{self.domain}_{self.language}"

    @property
    def examples_name(self) -> str:
        """Its file of examples: DOMAIN, or DOMAIN-DATASET, as published; _LANGUAGE behind where it is not English."""
        whole = self.domain if self.dataset == "default" else f"{self.domain}-{self.dataset}"
        return whole if self.language == "en" else f"{whole}_{self.language}"

    @property
    def metadata(self) -> Any:
        """What of mteb's metadata decides a prompt."""
        return SimpleNamespace(name=self.name, type="Retrieval", prompt=None, eval_splits=list(self.splits))


def is_air_bench(benchmark: str | None) -> bool:
    """Whether --benchmark asks for AIR-Bench, or a version of it."""
    return (benchmark or "").lower().startswith(FAMILY.lower())


def find_sets(benchmark: str, flags: AirBenchFlags) -> list[AirSet]:
    """The data sets that are asked for, in the package's order; reads no data.

    Raises:
        InputError: the package is not there, or has no such version, task type, domain, language, split or set.
    """
    try:
        from air_benchmark import tasks as table
    except ImportError as error:
        raise InputError(
            f"--benchmark {benchmark}: needs its own package ({error}); run: pip install air-benchmark"
        ) from None
    versions = {version.lower(): version for version in table.BenchmarkTable}
    asked = PAPER_VERSION if benchmark.lower() == FAMILY.lower() else benchmark
    if asked.lower() not in versions:
        raise InputError(f"--benchmark {benchmark}: the package has {', '.join(versions.values())}")
    version = versions[asked.lower()]
    try:
        task_types = table.check_task_types(list(flags.task_types) or None, version)
        domains = table.check_domains(list(flags.domains) or None, version)
        languages = table.check_languages(list(flags.languages) or None, version)
        splits = table.check_splits(list(flags.splits) or None, version)
    except ValueError as error:
        raise InputError(f"--benchmark {benchmark}: {error}") from None
    found = [
        AirSet(version, task_type, domain, language, dataset, tuple(wanted))
        for task_type in task_types
        for domain, of_domain in table.BenchmarkTable[version][task_type].items()
        if domain in domains
        for language, datasets in of_domain.items()
        if language in languages
        for dataset, facts in datasets.items()
        if (wanted := [split for split in splits if split in facts["splits"]])
    ]
    if not found:
        asked = f"--task_types {' '.join(task_types)} --domains {' '.join(domains)}"
        raise InputError(f"{version}: has nothing with {asked} --languages {' '.join(languages)} "
                         f"--splits {' '.join(splits)}")  # fmt: skip
    return found


def examples_place(folder: str | Path, one: AirSet) -> Path:
    """The part of a folder of examples that is for the task type: other parts have files of the same names."""
    root = Path(folder)
    return next((f for f in (root / FAMILY / one.task_type, root / one.task_type) if f.is_dir()), root)


class AirData:
    """The package's loader, told where the data is.

    Args:
        version: of the benchmark.
        data_dir: a folder with copies of data sets, `AIR-Bench/qa_law_en` and so on, as on the hub; what it lacks comes
            from the hub, or where that does not answer from its cache.
    """

    def __init__(self, version: str, data_dir: Path | None = None) -> None:
        from air_benchmark.evaluation_utils import DataLoader

        self.folder = data_root(data_dir)
        self._loader = DataLoader(version)

    def corpus(self, one: AirSet) -> Mapping[str, Mapping[str, str]]:
        """Document -> {"text": ...}."""
        return self._read(one.repository, self._loader.load_corpus, one)

    def queries(self, one: AirSet, split: str) -> Mapping[str, str]:
        """Query -> text."""
        return self._read(one.repository, self._loader.load_queries, one, split=split)

    def qrels(self, one: AirSet, split: str) -> Mapping[str, Mapping[str, int]]:
        """Query -> document -> grade."""
        name = f"qrels-{one.repository}" + ("-dev" if split == "dev" else "")
        return self._read(name, self._loader.load_qrels, one, split=split)

    def place(self, repository: str) -> Path | None:
        """The local copy, if there is one."""
        local = self.folder / FAMILY / repository if self.folder else None
        return local if local and local.is_dir() else None

    def _read(self, repository: str, load: Callable[..., Any], one: AirSet, **split: str) -> Any:
        """Raises InputError where the data can't be read."""
        from benchmarks.mteb_tasks import offline
        from common.model_names import hub_reachable

        facts = {key: getattr(one, key) for key in ("task_type", "domain", "language")}
        with contextlib.ExitStack() as stack:
            if self.place(repository) and self.folder:
                # The package asks for "AIR-Bench/REPOSITORY", which `datasets` looks for on the disk first.
                stack.enter_context(contextlib.chdir(self.folder))
            elif not hub_reachable():
                stack.enter_context(offline())
            try:
                return load(**facts, dataset_name=one.dataset, **split)
            except Exception as error:  # errors of many libraries; each means: no data
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                where = f"; and --data_dir {self.folder} has no {FAMILY}/{repository}" if self.folder else ""
                raise InputError(f"{one.name}: can't read {FAMILY}/{repository} ({reason}){where}") from error
