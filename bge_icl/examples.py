"""Few-shot examples: read from the published files, checked, and put into the words of the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bge_icl.prompts import EXAMPLE_FORMAT, SEPARATOR, fill
from common.errors import InputError
from common.reading import read_rows

RESPONSE_KEYS = ("response", "pos")  # of the MTEB files, and of the AIR-Bench files
KEYS = ("instruct", "query", *RESPONSE_KEYS)


@dataclass(frozen=True)
class Example:
    """A query of the task and what answers it; without `instruct` it takes that of the queries."""

    query: str
    response: str
    instruct: str | None = None


def read_examples(path: str | Path) -> list[Example]:
    """The examples of one published file: MTEB/TASK.json (a list), AIR-Bench/.../TASK.jsonl, or one of your own.

    Objects with `query`, `response` (or `pos`), and maybe `instruct`. A file without any is refused, so that
    few-shot can't turn into zero-shot unseen.

    Raises:
        InputError: no such file, or what is wrong with which row.
    """
    if not Path(path).is_file():
        raise InputError(f"examples: no file {path}")
    return [_example(row, f"{path}:{number}") for number, row in read_rows(path)]


def check_examples(examples: object, name: str = "examples") -> list[Example]:
    """Examples given as dicts or `Example`s, checked; [] for None.

    Raises:
        InputError: naming the index of the first that is wrong.
    """
    if examples is None:
        return []
    if isinstance(examples, str | bytes | Mapping) or not isinstance(examples, Iterable):
        hint = "; read_examples(FILE) reads a file" if isinstance(examples, str) else ""
        raise InputError(f"{name}: expected a list of {{instruct, query, response}}, got {examples!r:.80}{hint}")
    return [e if isinstance(e, Example) else _example(e, f"{name}[{i}]") for i, e in enumerate(examples)]


def _example(row: Any, where: str) -> Example:
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected {{instruct, query, response}}, got {row!r:.80}")
    given = [key for key in RESPONSE_KEYS if key in row]
    unknown = [key for key in row if key not in KEYS]
    if "query" not in row or len(given) != 1 or unknown:
        raise InputError(f"{where}: needs query, response (or pos) and maybe instruct; has {', '.join(map(str, row))}")
    response = row[given[0]]
    if given[0] == "pos" and isinstance(response, list) and response:
        response = response[0]
    values = {"query": row["query"], given[0]: response, "instruct": row.get("instruct")}
    for key, value in values.items():
        if not isinstance(value, str) and not (key == "instruct" and value is None):
            raise InputError(f"{where}: {key} is no text but {value!r:.80}")
    return Example(row["query"], response, row.get("instruct"))


def examples_text(examples: Sequence[Example], instruction: str | None = None, pattern: str = EXAMPLE_FORMAT) -> str:
    """What stands before a query: each example in `pattern`, blank lines between and behind them; "" for none.

    Args:
        examples: in order.
        instruction: of those that have none.
        pattern: with {} for instruction, query and response.

    Raises:
        InputError: an example without an instruction, and none to take.
    """
    parts = []
    for i, example in enumerate(examples):
        own = instruction if example.instruct is None else example.instruct
        if own is None:
            raise InputError(
                f"examples[{i}]: has no instruct, and the queries have no instruction; "
                "give query_instruction_for_retrieval, or instruct in the example"
            )
        parts.append(fill(pattern, own, example.query, example.response))
    return "".join(part + SEPARATOR for part in parts)
