"""Files of few-shot examples: found by task in a folder laid out as the published ones, checked, and written.

Published (FlagEmbedding, research/llm_dense_retriever/examples/bge-en-icl): `MTEB/TASK.json`, a list of
{query, response}; `AIR-Bench/qa/TASK.jsonl` and `AIR-Bench/long-doc/TASK.jsonl`, one {query, pos} per line. One file
serves every query of its task; the instruction is that of the task.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from bge_icl import examples as reading
from bge_icl.examples import Example
from common.errors import InputError
from common.io import write_json, write_text

logger = logging.getLogger(__name__)

# Where a task's file stands in a folder; the published one has the layouts below.
FOLDERS = ("", "MTEB", "AIR-Bench/qa", "AIR-Bench/long-doc", "qa", "long-doc")
SUFFIXES = (".json", ".jsonl")
CQADUPSTACK = "CQADupstackRetrieval"  # one published file serves its twelve tasks
MOST = 8  # examples in a published file, at most


def read_examples(path: str | Path, task: str | None = None, *, count: int | None = None) -> list[Example]:
    """The examples of a task: of a file, or of the task's file in a folder.

    Args:
        path: a file, or a folder with one file per task.
        task: the task's name; needed where `path` is a folder. Case does not matter.
        count: the first so many; None: all.

    Raises:
        InputError: no such file (names what is there), what is wrong with which row, an empty query or response, or
            fewer examples than `count`.
    """
    file = find_file(path, task)
    found = reading.read_examples(file)
    for number, example in enumerate(found, 1):
        for name, text in (("query", example.query), ("response", example.response)):
            if not text.strip():
                raise InputError(f"{file}: example {number}: its {name} is empty")
        if example.query.strip() == example.response.strip():
            # So it was in some published files until November 2024 (FlagOpen/FlagEmbedding, issue 1244).
            logger.warning("%s: example %d: the response is the query itself", file, number)
    if count is not None and len(found) < count:
        raise InputError(f"{file}: holds {len(found)} examples, {count} were asked for")
    if len(found) > MOST and count is None:
        logger.warning("%s: %d examples; published files have at most %d", file, len(found), MOST)
    return found if count is None else found[:count]


def find_file(path: str | Path, task: str | None = None) -> Path:
    """The file that `read_examples` reads.

    Raises:
        InputError: there is none, or a folder without a task's name.
    """
    root = Path(path)
    if root.is_file():
        return root
    if not root.is_dir():
        raise InputError(f"examples: no file or folder {path}")
    if task is None:
        raise InputError(f"examples: {path} is a folder; name the task, or the file in it")
    names = [task, CQADUPSTACK] if task.lower().startswith("cqadupstack") else [task]
    known = _files(root)
    for name in names:
        if name.lower() in known:
            return known[name.lower()]
    near = difflib.get_close_matches(task.lower(), known, n=1)
    hint = f"; did you mean {known[near[0]].stem}?" if near else f"; it has {len(known)} files of examples"
    raise InputError(f"examples: {path} has no {task}.json or {task}.jsonl{hint}")


def _files(root: Path) -> dict[str, Path]:
    """Task, in lower case -> its file; of two with one name that of the earlier folder and suffix."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for suffix in SUFFIXES:
            for file in sorted((root / folder).glob(f"*{suffix}")):
                found.setdefault(file.stem.lower(), file)
    return found


def write_examples(path: str | Path, examples: Sequence[Example]) -> None:
    """Write a file as published, atomically: `.json` with query and response, `.jsonl` with query and pos.

    An example's own instruction is written too, where it has one.

    Raises:
        InputError: another suffix, or nothing to write.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise InputError(f"{path}: must end in .json or .jsonl")
    if not examples:
        raise InputError(f"{path}: no examples to write")
    key = "response" if file.suffix == ".json" else "pos"
    rows = []
    for example in examples:
        instruct = {} if example.instruct is None else {"instruct": example.instruct}
        rows.append({**instruct, "query": example.query, key: example.response})
    if file.suffix == ".json":
        write_json(file, rows)
    else:
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
