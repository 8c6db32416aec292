"""A folder in the layout of the real STS data, made of the pairs that ship with the project."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.reading import SHIPPED, read_rows
from senteval import SUBSETS

PER_SUBSET = 6
FILES = {"STSBenchmark": "stsbenchmark/test", "SICK-R": "sick/test"}


def shipped_pairs() -> list[dict[str, Any]]:
    """The 300 shipped pairs: text1, text2, score."""
    return [row for _, row in read_rows(SHIPPED / "pairs.jsonl")]


def write_sts(folder: Path, tasks: Sequence[str] = ("STS12", "STSBenchmark")) -> Path:
    """Some tasks in both protocols, with `PER_SUBSET` pairs per subset; no two tasks share a pair."""
    pairs = iter(shipped_pairs())
    for task in tasks:
        records = []
        for subset in SUBSETS[task] or ("all",):
            for _ in range(PER_SUBSET):
                row = next(pairs)
                lower = {"s1": row["text1"].lower(), "s2": row["text2"].lower()}
                raw = {"s1_raw": row["text1"], "s2_raw": row["text2"]}
                records.append({"subset": subset, "score": row["score"], **lower, **raw})
        path = folder / f"{FILES.get(task, f'sts12-16/{task}')}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder
