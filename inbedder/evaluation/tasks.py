"""The tasks of InBedder's evaluation with their instructions, as `tasks.yaml` has them."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from common.errors import InputError

FILE = Path(__file__).with_name("tasks.yaml")

# The tasks that the two averages are made of, and those of the robustness figures (NYT by location is not among them).
AWARENESS = ("IntentEmotion", "NYTTopicClustering", "NYTLocationClustering", "InstructSTSBenchmark")
GENERIC = ("AskUbuntuDupQuestions", "SciDocsRR", "StackOverflowDupQuestions", "TwentyNewsgroupsClustering")
PUBLISHED_ROBUSTNESS = (
    "NYTTopicClustering",
    "FeedbacksClustering",
    "RateMyProfClustering",
    "FewRelClustering",
    "FewNerdClustering",
    "FewEventClustering",
)
SYNGOALEX = ("SynGoalExTopic", "SynGoalExLanguage", "SynGoalExStyle")
GROUPS: dict[str, tuple[str, ...]] = {
    "released": (*AWARENESS, *GENERIC, *(t for t in PUBLISHED_ROBUSTNESS if t not in AWARENESS)),
    "awareness": AWARENESS,
    "generic": GENERIC,
    "robustness": PUBLISHED_ROBUSTNESS,
    "SynGoalEx": SYNGOALEX,
    "NYT": ("NYTTopicClustering", "NYTLocationClustering"),
    "local": (*SYNGOALEX, "FewRelClustering", "FeedbacksClustering", "TwentyNewsgroupsClustering"),
}
# What a user may leave off the end of a name.
ENDINGS = ("Clustering", "DupQuestions", "Benchmark", "Reranking", "Classification")

RUN_HERE = ("triplets", "sts", "reranking", "clustering")
Kind = Literal["right", "implicit", "wrong"]


@dataclass(frozen=True)
class Task:
    """A task and what is asked in it.

    Attributes:
        name: as published.
        kind: triplets, sts, reranking or clustering; tasks of other kinds are known by their instruction alone.
        metric: what its score is.
        instruction: the published one, or one per subset; empty where every row has its own.
        right, implicit, wrong: instructions of the robustness test.
        hub, revision: the data set on the hub; None: it is only here.
        subsets: configurations on the hub; () for the only one.
        local: {file, layout, label} of a file below --data_dir in a layout of its own.
        ours: not of the paper.
    """

    name: str
    kind: str
    metric: str
    instruction: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    implicit: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    hub: str | None = None
    revision: str | None = None
    subsets: tuple[str, ...] = ()
    local: tuple[tuple[str, str], ...] = ()
    ours: bool = False

    def instructions(self, robustness: bool) -> list[str]:
        """All that a run asks, each once: the published one first."""
        asked = [*self.instruction]
        if robustness:
            asked += [*self.right, *self.implicit, *self.wrong]
        return list(dict.fromkeys(asked))

    def first_of_each_kind(self, most: int | None) -> Task:
        """The task with the first `most` right, implicit and wrong instructions; None: all."""
        return replace(self, right=self.right[:most], implicit=self.implicit[:most], wrong=self.wrong[:most])

    def of_kind(self, kind: Kind) -> tuple[str, ...]:
        """The instructions of one kind of the robustness test."""
        return {"right": self.right, "implicit": self.implicit, "wrong": self.wrong}[kind]


@functools.cache
def all_tasks() -> dict[str, Task]:
    """Every task by name, in the order of `tasks.yaml`."""
    return {name: _task(name, entry) for name, entry in yaml.safe_load(FILE.read_text("utf-8")).items()}


def find_tasks(names: Sequence[str]) -> list[Task]:
    """The tasks of names and of groups (`GROUPS`), each once, in the order given.

    Raises:
        InputError: no such task; names the nearest.
    """
    known = all_tasks()
    found: dict[str, Task] = {}
    for name in names:
        for one in GROUPS.get(name, (name,)):
            whole = next((n for n in (one, *(one + e for e in ENDINGS)) if n in known), None)
            if whole is None:
                short = [n.removesuffix(e) for n in known for e in ENDINGS if n.endswith(e)]
                near = difflib.get_close_matches(one, [*known, *short, *GROUPS], n=1)
                hint = f"did you mean {near[0]}?" if near else f"groups: {', '.join(GROUPS)}; tasks: {', '.join(known)}"
                raise InputError(f"--tasks {one}: no such task; {hint}")
            found[whole] = known[whole]
    return list(found.values())


def _task(name: str, entry: dict[str, Any]) -> Task:
    asked = entry.get("instruction", ())
    return Task(
        name=name,
        kind=entry["kind"],
        metric=entry["metric"],
        instruction=(asked,) if isinstance(asked, str) else tuple(asked),
        right=tuple(entry.get("correct", ())),
        implicit=tuple(entry.get("implicit", ())),
        wrong=tuple(entry.get("incorrect", ())),
        hub=entry.get("hub"),
        revision=entry.get("revision"),
        subsets=tuple(entry.get("subsets", ())),
        local=tuple(entry.get("local", {}).items()),
        ours=entry.get("ours", False),
    )
