"""Which instruction an mteb task is read with, and on which side: a method's own, mteb's, a file's, or none.

A method brings its instructions as `task_instructions.json` in its package, beside the module that the registry
names; nothing else has to be said for it. A user's file has the same form, or is just {"TASK": "instruction"}.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import registry
from common.errors import InputError
from common.io import sha256_of
from common.reading import read_json

FILE = "task_instructions.json"
KEYS = ("source", "tasks", "others", "both_sides", "unnormalized")


@dataclass(frozen=True)
class TaskPrompt:
    """How the texts of one task are read.

    Attributes:
        instruction: of queries, and of all texts of a task that has no two sides; None: none.
        document: of the documents of a task with two sides; None: none.
        both_sides: documents are read as queries are.
        normalized: False takes the L2 norm off where the method always normalises.
        examples: what the template puts before a query, for methods that take examples.
        source: where the instruction is from.
    """

    instruction: str | None = None
    document: str | None = None
    both_sides: bool = False
    normalized: bool = True
    examples: str = ""
    source: str = "none"


@dataclass(frozen=True)
class TaskPrompts:
    """The prompts of all tasks.

    Attributes:
        tasks: task -> instruction, or {"query": ..., "document": ...}.
        others: for tasks that are not there: mteb's own instruction in place of {}, its last full stop gone; None:
            no instruction.
        both_sides: types of tasks whose documents are read as queries.
        unnormalized: types of tasks whose vectors keep their length.
        source: of the whole.
    """

    tasks: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    others: str | None = None
    both_sides: frozenset[str] = frozenset()
    unnormalized: frozenset[str] = frozenset()
    source: str = "none"

    def of(self, metadata: Any) -> TaskPrompt:
        """The prompt of one task, by its mteb metadata."""
        kind = str(metadata.type)
        frame = TaskPrompt(both_sides=kind in self.both_sides, normalized=kind not in self.unnormalized)
        for name in names(metadata.name):
            if name in self.tasks:
                query, document = _sides(self.tasks[name])
                return replace(frame, instruction=query, document=document, source=f"{self.source}: {name}")
        if self.others is None:
            return frame
        query, _ = _sides(metadata.prompt or "")
        if query is None:
            return frame
        return replace(frame, instruction=self.others.replace("{}", query.rstrip(".")), source="mteb's own")

    @property
    def fingerprint(self) -> str:
        """A hash over all of it."""
        parts = [self.tasks, self.others, sorted(self.both_sides), sorted(self.unnormalized)]
        return sha256_of(parts)


def names(task: str) -> Iterator[str]:
    """A task's name, and those of the tasks it is a version or a part of."""
    yield task
    bare = re.sub(r"\.v\d+$", "", task)
    yield bare
    bare = bare.removesuffix("HardNegatives")
    yield bare
    yield bare.removesuffix("Retrieval")
    if bare.startswith("CQADupstack"):
        yield "CQADupstackRetrieval"
        yield "CQADupstack"


def load_prompts(choice: str, method: str) -> TaskPrompts:
    """The prompts that `--instructions` asks for.

    Args:
        choice: "method": the method's own, none where it has none; "mteb", "none", or a JSON file.
        method: a name of the registry.

    Raises:
        InputError: no such file, or it has another form.
    """
    if choice == "none":
        return TaskPrompts()
    if choice == "mteb":
        return TaskPrompts(others="{}.", source="mteb")
    if choice == "method":
        file = method_file(method)
        return read_prompts(file) if file else TaskPrompts()
    if not Path(choice).is_file():
        raise InputError(f"--instructions {choice}: is no file, and none of method, mteb, none")
    return read_prompts(Path(choice))


def method_file(method: str) -> Path | None:
    """The method's own instructions, if it has some; loads nothing of it."""
    package = registry.get(method).load.partition(":")[0].rpartition(".")[0]
    spec = importlib.util.find_spec(package) if package else None
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((file for folder in folders if (file := Path(folder) / FILE).is_file()), None)


def read_prompts(file: Path) -> TaskPrompts:
    """A file of instructions.

    Raises:
        InputError: it is no JSON object of the form above; names the key.
    """
    content = read_json(file)
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: expected {{TASK: instruction}}")
    if "tasks" not in content:
        content = {"tasks": content}
    if unknown := [key for key in content if key not in KEYS]:
        raise InputError(f"{file}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    tasks = content["tasks"]
    if not isinstance(tasks, Mapping) or not tasks:
        raise InputError(f"{file}: tasks is no object with instructions")
    for task, value in tasks.items():
        texts = list(value.values()) if isinstance(value, Mapping) else [value]
        wrong_side = isinstance(value, Mapping) and not set(value) <= {"query", "document"}
        if wrong_side or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{file}: {task}: expected a text, or {{query, document}}, got {value!r:.80}")
    others = content.get("others")
    if others is not None and (not isinstance(others, str) or "{}" not in others):
        raise InputError(f"{file}: others: expected a text with {{}} for mteb's own instruction, got {others!r:.80}")
    return TaskPrompts(
        tasks=tasks,
        others=others,
        both_sides=frozenset(content.get("both_sides") or ()),
        unnormalized=frozenset(content.get("unnormalized") or ()),
        source=file.name if file.name != FILE else f"{file.parent.name}/{FILE}",
    )


def _sides(value: Any) -> tuple[str | None, str | None]:
    """(query, document) of an instruction, or of one per side."""
    if isinstance(value, Mapping):
        return value.get("query") or None, value.get("document") or None
    return value or None, None
