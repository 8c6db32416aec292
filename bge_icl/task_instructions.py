"""The published instruction of each task, from `task_instructions.json` (its source stands in it)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from common.reading import read_json

FILE = Path(__file__).with_name("task_instructions.json")
AIR_BENCH = "AIR-Bench"  # its name in the file: one instruction for all its data sets


@cache
def _content() -> dict[str, Any]:
    return read_json(FILE)


def task_instructions() -> dict[str, str]:
    """Task -> instruction, of the 56 tasks of MTEB(eng, v1) and of AIR-Bench."""
    return dict(_content()["tasks"])
