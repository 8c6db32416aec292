"""From a task's data to its scores, with any encoder; tasks on the same texts share one encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inbedder.evaluation import scores
from inbedder.evaluation.asking import Asker
from inbedder.evaluation.clustering import N_INIT, assign, v_measure
from inbedder.evaluation.robustness import spread, summary
from inbedder.evaluation.task_data import Clustering, Pairs, Reranking, TaskData, Triplets
from inbedder.evaluation.tasks import Task

Item = tuple[Task, TaskData]


@dataclass(frozen=True)
class KMeansSettings:
    """How clusters are made, and what is asked.

    Attributes:
        seeds: k-means is run once per seed; scores are means over them.
        n_init: starts per seed (full k-means).
        minibatch: the released setting.
        robustness: ask the right, implicit and wrong instructions too.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    n_init: int = N_INIT
    minibatch: bool = False
    robustness: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As results name it."""
        kind = {"kmeans": "mini-batch of 500"} if self.minibatch else {"kmeans": "full", "n_init": self.n_init}
        return {**kind, "seeds": list(self.seeds), "vectors": "not normalised"}


def groups_of(items: Mapping[str, Item]) -> list[list[str]]:
    """The names of tasks that go together: clusterings of the very same texts; all others are by themselves."""
    groups: dict[Any, list[str]] = {}
    for name, (_, data) in items.items():
        texts = [part.texts for part in data.parts if isinstance(part, Clustering)]
        key: Any = tuple(map(tuple, texts)) if texts else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def score_group(asker: Asker, items: Mapping[str, Item], settings: KMeansSettings) -> dict[str, dict[str, Any]]:
    """The scores of tasks that go together, by task; `score` is the one of the task's metric. All x 100."""
    task, data = next(iter(items.values()))
    if task.kind == "clustering":
        return _clusterings(asker, items, settings)
    score = {"triplets": _triplets, "sts": _pairs, "reranking": _rerankings}[task.kind]
    return {task.name: score(asker, task, data)}


def _clusterings(asker: Asker, items: Mapping[str, Item], settings: KMeansSettings) -> dict[str, dict[str, Any]]:
    """V-measures per instruction and seed; of several sets (MTEB's) the mean over them."""
    asked = {name: task.instructions(settings.robustness) for name, (task, _) in items.items()}
    union = list(dict.fromkeys(one for some in asked.values() for one in some))
    found: dict[str, dict[str, list[list[float]]]] = {name: {one: [] for one in some} for name, some in asked.items()}
    parts = next(iter(items.values()))[1].parts
    for i, part in enumerate(parts):
        assert isinstance(part, Clustering)
        held: Any = None
        for instruction, vectors in asker.many(part.texts, union):
            if vectors is not held:  # without instructions all vectors are the same
                held, by_number = vectors, {}
            for name, (_, data) in items.items():
                if instruction not in found[name]:
                    continue
                labels = data.parts[i].labels  # type: ignore[union-attr]
                number = len(set(labels))
                if number not in by_number:  # aspects with as many classes have the same clusters
                    by_number[number] = [
                        assign(vectors, number, seed, n_init=settings.n_init, minibatch=settings.minibatch)
                        for seed in settings.seeds
                    ]
                found[name][instruction].append([v_measure(labels, one) for one in by_number[number]])
    results = {}
    for name, (task, _) in items.items():
        per_seed = {one: np.mean(values, axis=0).tolist() for one, values in found[name].items()}
        main = per_seed[task.instruction[0]]
        results[name] = {
            "score": float(np.mean(main)),
            "std": spread(main),
            "seeds": main,
            "instruction": task.instruction[0],
            "sets": len(parts),
            "per_instruction": per_seed,
        }
        if settings.robustness and task.right:
            results[name]["robustness"] = summary(task, per_seed)
    return results


def _triplets(asker: Asker, task: Task, data: TaskData) -> dict[str, Any]:
    """The success rate of each subset under its instruction, and their harmonic mean."""
    rates = []
    for part, instruction in zip(data.parts, task.instruction, strict=True):
        assert isinstance(part, Triplets)
        ((_, vectors),) = asker.many([*part.anchor, *part.positive, *part.negative], [instruction])
        rates.append(scores.triplet_success(*np.split(vectors, 3)))
    return {"score": scores.harmonic_mean(*rates), **dict(zip(task.subsets, rates))}


def _pairs(asker: Asker, task: Task, data: TaskData) -> dict[str, Any]:
    (part,) = data.parts
    assert isinstance(part, Pairs)
    instructions = part.instruction or list(task.instruction) * len(part.gold)
    vectors = asker.each([*part.text1, *part.text2], [*instructions, *instructions])
    first, second = np.split(vectors, 2)
    return {"score": scores.pair_spearman(first, second, part.gold)}


def _rerankings(asker: Asker, task: Task, data: TaskData) -> dict[str, Any]:
    """Mean average precision; every distinct text is encoded once."""
    (part,) = data.parts
    assert isinstance(part, Reranking)
    samples = list(zip(part.query, part.positive, part.negative))
    distinct = list(dict.fromkeys(text for sample in samples for side in sample for text in side))
    ((_, vectors),) = asker.many(distinct, list(task.instruction))
    row = {text: i for i, text in enumerate(distinct)}

    def of(texts: Sequence[str]) -> np.ndarray:
        return vectors[[row[text] for text in texts]]

    each = [scores.average_precision(*map(of, sample)) for sample in samples]
    return {"score": float(np.mean(each)), "samples": len(samples), "dropped": part.dropped}
