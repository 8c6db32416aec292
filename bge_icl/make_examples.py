"""Make few-shot example files from a task's training split, never from its test split.

    python -m bge_icl.make_examples --task SciFact WikiQA --data_dir ../shared/data --output examples --n 5

One TASK.json per task, in the published format (`bge_icl.example_files`), and `made_TASK.txt` beside it, which says
what from. A task is one of the local ones (`--task` with a wrong name lists them), or any other of which `--pairs`
gives a file of training pairs. Examples are drawn at random, of different labels first where the response is a label.
A query that is also a test query, or a passage that answers one, is never drawn.
"""

from __future__ import annotations

import difflib
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.retrieval_sets import SETS, data_folder, data_rows, load_set
from bge_icl.example_files import write_examples
from bge_icl.examples import Example
from bge_icl.local_tasks import TASK_NAMES
from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import command_line, write_text
from common.overlap import key

logger = logging.getLogger(__name__)

Cut = Callable[[str, int], str]
LIMIT = 256  # tokens of a query, and of a response, as in training


@dataclass(frozen=True)
class Source:
    """What examples of a task may be drawn from.

    Attributes:
        name: what it is, for people.
        pairs: query and the responses that answer it, of the training split.
        test_queries, test_responses: keys (`common.overlap.key`) of texts that must not be drawn: queries of the test
            split, and passages that answer one. Labels are no such passages: they are the same in both splits.
        labels: whether responses are labels, of which the examples should show different ones.
    """

    name: str
    pairs: list[tuple[str, list[str]]]
    test_queries: frozenset[str]
    test_responses: frozenset[str] = frozenset()
    labels: bool = False


def draw_examples(
    source: Source, n: int, seed: int = 0, cut: Cut | None = None, limits: tuple[int, int] = (LIMIT, LIMIT)
) -> list[Example]:
    """The first `n` of a random order of the source's pairs; so those of a smaller `n` are among those of a greater.

    Args:
        source: of `source_of`.
        n: how many.
        seed: of the order.
        cut: shortens a text to so many tokens; None leaves all as they are.
        limits: tokens of query and response.

    Raises:
        InputError: fewer than `n` of the pairs can be taken.
    """
    generator = random.Random(f"{seed} {source.name}")
    order = generator.sample(range(len(source.pairs)), len(source.pairs))
    chosen: list[Example] = []
    used: set[str] = set()
    repeats: list[Example] = []
    for i in order:
        query, responses = source.pairs[i]
        allowed = [r for r in responses if r.strip() and key(r) not in source.test_responses]
        if not query.strip() or not allowed or key(query) in source.test_queries | used:
            continue
        response = generator.choice(allowed)
        if key(response) == key(query):
            continue
        example = Example(query, response)
        used.add(key(query))
        # A second example of a label, or with the same passage, only where there are no others.
        if key(response) in used:
            repeats.append(example)
        else:
            chosen.append(example)
            used.add(key(response))
        if len(chosen) >= n:
            break
    found = [*chosen, *repeats][:n]
    if len(found) < n:
        raise InputError(f"{source.name}: {len(found)} examples can be taken from {len(source.pairs)} pairs, not {n}")
    overlap = [e.query for e in found if key(e.query) in source.test_queries]
    assert not overlap, f"{source.name}: examples are test queries: {overlap[:3]}"
    return [Example(cut(e.query, limits[0]), cut(e.response, limits[1])) for e in found] if cut else found


def token_cutter(tokenizer: Any) -> Cut:
    """A function (text, n) that gives the text of the first n tokens, as training cuts its examples."""

    def cut(text: str, n: int) -> str:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return text if len(ids) <= n else str(tokenizer.decode(ids[:n]))

    return cut


# ------------------------------------------------------------------------------------------ sources


def retrieval_source(name: str, data_dir: str | Path) -> Source:
    """The training split of a set of `benchmarks.retrieval_sets`."""
    train, test = load_set(name, data_dir, "train"), load_set(name, data_dir, "test")
    best = {q: max(judged.values()) for q, judged in train.qrels.items()}
    pairs = [
        (text, [train.corpus[p] for p, grade in train.qrels[q].items() if grade == best[q]])
        for q, text in train.queries.items()
    ]
    queries = frozenset(key(text) for text in test.queries.values())
    relevant = frozenset(key(test.corpus[p]) for judged in test.qrels.values() for p in judged)
    return Source(f"{name}, training split", pairs, queries, relevant)


@dataclass(frozen=True)
class _Rows:
    """Where a task's pairs are: files (without their suffix) and columns.

    Attributes:
        train, test: files that examples come from, and that are tested.
        query, response: columns.
        labels: responses are labels.
        wanted: which rows are pairs.
        clean: what the task does to its queries.
        words: a response as it is written into an example.
    """

    train: str
    test: str
    query: str
    response: str
    labels: bool = True
    wanted: Callable[[dict[str, Any]], bool] = lambda row: True
    clean: Callable[[str], str] = str
    words: Callable[[Any], str] = lambda value: str(value).replace("_", " ")

    def source(self, task: str, data_dir: Path) -> Source:
        train, test = data_dir / self.train, data_dir / self.test
        pairs = [
            (self.clean(str(row[self.query])), [self.words(row[self.response])])
            for row in data_rows(train, (self.query, self.response))
            if self.wanted(row)
        ]
        columns = [self.query] if self.labels else [self.query, self.response]
        texts = [key(self.clean(str(row[column]))) for row in data_rows(test, columns) for column in columns]
        # In a symmetric task a text of the test split is kept out of both places.
        others = frozenset() if self.labels else frozenset(texts)
        return Source(f"{task}, {self.train}", pairs, frozenset(texts), others, self.labels)


# MTEB's tasks that are at hand; their texts are not part of this repository.
_ROWS = {
    "Banking77Classification": _Rows("banking77/train", "banking77/test", "text", "label"),
    "EmotionClassification": _Rows("emotion/train", "emotion/test", "text", "label"),
    "AmazonCounterfactualClassification": _Rows(
        *("amazon_counterfactual/EN.train", "amazon_counterfactual/EN.test", "text", "label"),
        words=lambda value: "counterfactual" if int(value) else "not-counterfactual",
    ),
    # MTEB clusters subjects of what its makers call the training part, without their "Re:".
    "TwentyNewsgroupsClustering": _Rows(
        *("twenty_newsgroups/test", "twenty_newsgroups/train", "subject", "label"),
        clean=lambda subject: re.sub(r"^(?:re\s*:\s*)+", "", subject, flags=re.IGNORECASE).strip(),
    ),
    "STSBenchmark": _Rows(
        *("stsbenchmark/train", "stsbenchmark/test", "s1_raw", "s2_raw"),
        labels=False,
        wanted=lambda row: float(row["score"]) >= 4,
        words=str,
    ),
}
# Tasks whose data are at hand, and from which nothing may be drawn.
_REFUSED = {"TwitterURLCorpus": "MTEB tests on both of its files, so that no pair is left to draw from"}
_RETRIEVAL = {TASK_NAMES[name]: name for name in SETS}
TASKS = (*_RETRIEVAL, *_ROWS)


def source_of(task: str, data_dir: str | Path) -> Source:
    """What examples of a local task may be drawn from.

    Raises:
        InputError: no such task, or its data are missing.
    """
    name = task_name(task)
    if name in _RETRIEVAL:
        return retrieval_source(_RETRIEVAL[name], data_dir)
    return _ROWS[name].source(name, Path(data_dir))


def task_name(task: str) -> str:
    """A local task's name as its file is called, from that in any case, or from the name of its set.

    Raises:
        InputError: no such task (names the nearest), or one without training pairs.
    """
    for name, reason in _REFUSED.items():
        if task.lower() == name.lower():
            raise InputError(f"task {name}: {reason}; give --pairs and --test")
    known = {name.lower(): name for name in TASKS} | {name: task for task, name in _RETRIEVAL.items()}
    if task.lower() not in known:
        near = difflib.get_close_matches(task.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}?" if near else f"known: {', '.join(TASKS)}; or give --pairs"
        raise InputError(f"task {task!r} is not known; {hint}")
    return known[task.lower()]


def pairs_source(pairs: Path, test: Path) -> Source:
    """Pairs from a file of one's own, {query, response} or {query, pos}, and a file of the test split's queries.

    Raises:
        InputError: a file without these columns.
    """
    found = []
    for row in data_rows(pairs, ("query",)):
        if ("response" in row) == ("pos" in row):
            raise InputError(f"--pairs {pairs}: needs query, and response or pos; has {', '.join(row)}")
        response = row["response"] if "response" in row else row["pos"]
        found.append((str(row["query"]), [response] if isinstance(response, str) else list(response)))
    queries = frozenset(key(str(row["query"])) for row in data_rows(test, ("query",)))
    return Source(str(pairs), found, queries)


# ------------------------------------------------------------------------------------------ command line


@dataclass(kw_only=True)
class MakeExamplesConfig:
    """Which tasks, from where, how many."""

    task: list[str] = field(metadata={"help": "tasks by name; a wrong one lists those at hand", "group": "examples"})
    output: Path = field(metadata={"help": "folder of the files, one TASK.json each", "group": "examples"})
    n: int = flag(5, "examples per task", "examples")
    seed: int = flag(0, "of the draw", "examples")
    query_max_len: int = flag(LIMIT, "tokens of an example's query", "examples")
    passage_max_len: int = flag(LIMIT, "tokens of an example's response", "examples")
    tokenizer: str = flag("smollm2-135m", "whose tokens: a folder, short name or hub id", "examples")
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA", "data")
    pairs: Path | None = flag(None, "training pairs {query, response} of another task", "data")
    test: Path | None = flag(None, "with --pairs: {query} of its test split, which is kept out", "data")

    def __post_init__(self) -> None:
        for name in ("n", "query_max_len", "passage_max_len"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least 1")
        if not self.task:
            raise InputError("--task: needs at least one task")
        if (self.pairs is None) != (self.test is None):
            raise InputError("--pairs and --test belong together: test queries must be kept out of the examples")
        if self.pairs is not None and len(self.task) != 1:
            raise InputError("--pairs is of one task; give one --task")


def make_examples(config: MakeExamplesConfig) -> dict[str, list[Example]]:
    """Draw and write the examples of every task; returns them by the names of the files.

    Raises:
        InputError: wrong use, or missing data.
    """
    sources = dict(_source(config, task) for task in config.task)
    from transformers import AutoTokenizer

    from common.model_names import resolve

    model = resolve(config.tokenizer)
    cut = token_cutter(AutoTokenizer.from_pretrained(model.path, **model.load_options))
    made = {}
    for name, source in sources.items():
        limits = (config.query_max_len, config.passage_max_len)
        made[name] = draw_examples(source, config.n, config.seed, cut, limits)
        write_examples(config.output / f"{name}.json", made[name])
        write_text(config.output / f"made_{name}.txt", _how(config, source))
    return made


def _source(config: MakeExamplesConfig, task: str) -> tuple[str, Source]:
    if config.pairs is not None and config.test is not None:
        return task, pairs_source(config.pairs, config.test)
    name = task_name(task)
    return name, source_of(name, data_folder(config.data_dir))


def _how(config: MakeExamplesConfig, source: Source) -> str:
    lines = [
        f"{config.n} examples from {source.name} ({len(source.pairs)} pairs), seed {config.seed}",
        f"limits: {config.query_max_len} and {config.passage_max_len} tokens of {config.tokenizer}",
        f"none is one of the {len(source.test_queries)} queries of the test split",
        f"command: {command_line()}",
    ]
    return "\n".join(lines) + "\n"


def main(config: MakeExamplesConfig) -> int:
    """Make the files, and say where they are."""
    for name, examples in make_examples(config).items():
        print(f"{config.output / name}.json: {len(examples)} examples")
    return 0


if __name__ == "__main__":
    cli.run(main, MakeExamplesConfig, description=__doc__)
