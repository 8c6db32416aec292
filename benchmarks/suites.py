"""What can be run: suites of tasks, the text edits of released evaluations, and where the data comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import InputError
from common.reading import SHIPPED, read_rows
from senteval import PairTask, SentEvalError, blank_padded, load_task, task_name, task_names
from senteval.transfer_tasks import TRANSFER_TASKS

SHIPPED_TASK = "ShippedPairs"
TRANSFER, TRANSFER_PROBE = "transfer", "transfer-sklearn"  # suites of results of `benchmarks transfer`


@dataclass(frozen=True)
class Suite:
    """A set of tasks in one protocol.

    Attributes:
        name: as in `--suite`.
        protocol: how the texts are given and what is scored; results of two protocols are never mixed.
        tasks: names, in the order of tables.
        about: one line for `python -m benchmarks list`.
    """

    name: str
    protocol: str
    tasks: tuple[str, ...]
    about: str


SUITES = {
    suite.name: suite
    for suite in (
        Suite("sts", "senteval", task_names("senteval"), "STS12-16, STS-B, SICK-R as SentEval gives them (papers)"),
        Suite("sts-mteb", "mteb", task_names("mteb"), "the same seven as MTEB gives them (SICK all, raw; STS-B raw)"),
        Suite("sts-shipped", "shipped", (SHIPPED_TASK,), "the 300 pairs that ship with the project; no benchmark"),
    )
}


def tasks_of(suite: str) -> tuple[str, ...]:
    """All tasks of a suite in the order of tables; () where they are chosen freely, as mteb's."""
    if suite in (TRANSFER, TRANSFER_PROBE):
        return TRANSFER_TASKS
    return SUITES[suite].tasks if suite in SUITES else ()


def get_suite(name: str, tasks: list[str] | tuple[str, ...] = ()) -> Suite:
    """A suite, maybe cut to some tasks.

    Raises:
        InputError: unknown suite or task.
    """
    if name not in SUITES:
        raise InputError(f"--suite {name}: no such suite; known: {', '.join(SUITES)}")
    suite = SUITES[name]
    if not tasks:
        return suite
    if name == "sts-shipped":
        unknown = [t for t in tasks if t not in suite.tasks]
        if unknown:
            raise InputError(f"--tasks {unknown[0]}: {name} has only {', '.join(suite.tasks)}")
        return suite
    try:
        wanted = {task_name(task) for task in tasks}
    except SentEvalError as error:
        raise InputError(f"--tasks: {error}") from error
    return replace(suite, tasks=tuple(t for t in suite.tasks if t in wanted))


def load(
    suite: Suite, name: str, data_dir: Path | None, *, limit: int | None = None, seed: int = 0, compat: frozenset[str]
) -> PairTask:
    """One task of a suite.

    Args:
        suite: from `get_suite`.
        name: one of its tasks.
        data_dir: the user's folder; None: `EMBED_DATA`, else the hub. The shipped suite needs none.
        limit: a seeded sample of pairs.
        seed: of that sample.
        compat: of the run; `angle:senteval-blanks` changes the texts of STS12-16.

    Raises:
        InputError: missing or malformed data; names the file and the flag.
    """
    if suite.protocol == "shipped":
        return _shipped().sample(limit, seed)
    try:
        task = load_task(name, suite.protocol, data_dir, limit=limit, seed=seed)
        return blank_padded(task) if "angle:senteval-blanks" in compat else task
    except SentEvalError as error:
        raise InputError(str(error)) from error


def _shipped() -> PairTask:
    rows = [row for _, row in read_rows(SHIPPED / "pairs.jsonl")]
    return PairTask(
        name=SHIPPED_TASK,
        protocol="shipped",
        text1=[row["text1"] for row in rows],
        text2=[row["text2"] for row in rows],
        gold=np.array([row["score"] for row in rows]),
        subset=["all"] * len(rows),
        source="common/shipped/pairs.jsonl",
        index=np.arange(len(rows)),
        total=len(rows),
        max_words={},
    )


def one_word_prompt_edits(text: str) -> str:
    """The edits that the released one-word-prompt evaluations (PromptEOL, AnglE) make before the template.

    In this order: a text that ends in none of . ? " ' gets a full stop; " becomes '; a final ? becomes a full
    stop. So the quotation marks of the template stay the only ones.
    """
    return _question_to_full_stop(_with_end_mark(text).replace('"', "'"))


def end_mark_edits(text: str) -> str:
    """The same without the change of quotation marks, as the released evaluation of BeLLM has it."""
    return _question_to_full_stop(_with_end_mark(text))


def _with_end_mark(text: str) -> str:
    return text + "." if text and text[-1] not in ".?\"'" else text


def _question_to_full_stop(text: str) -> str:
    return text[:-1] + "." if text.endswith("?") else text


EDITS: dict[str, Callable[[str], str]] = {"one-word-prompt": one_word_prompt_edits, "end-marks": end_mark_edits}
