"""A small invented STS collection, and writers for the folder layouts that it can stand in."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from senteval import SUBSETS, TASKS

Collection = dict[str, list[dict[str, Any]]]

WORDS = [
    "a",
    "the",
    "small",
    "red",
    "dog",
    "cat",
    "child",
    "river",
    "sings",
    "sleeps",
    "near",
    "under",
    "today",
]
SICK_PARTS = ("train", "trial", "test")


@pytest.fixture(autouse=True)
def _no_data_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)


@pytest.fixture
def collection() -> Collection:
    """File stem -> records, four pairs per subset, in the official order."""
    rng = random.Random(7)

    def record(**more: Any) -> dict[str, Any]:
        raw = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))).capitalize() + "." for _ in range(2)]
        tokenised = [text.lower().replace(".", " .") for text in raw]
        return {
            **more,
            "score": rng.randint(0, 25) / 5,
            "s1": tokenised[0],
            "s2": tokenised[1],
            "s1_raw": raw[0],
            "s2_raw": raw[1],
        }

    data: Collection = {}
    for task in TASKS[:5]:
        data[f"sts12-16/{task}"] = [record(subset=name) for name in SUBSETS[task] for _ in range(4)]
    data["stsbenchmark/test"] = [record() for _ in range(4)]
    for part in SICK_PARTS:
        data[f"sick/{part}"] = [record() for _ in range(4)]
    return data


@pytest.fixture
def write_jsonl() -> Callable[..., Path]:
    def write(folder: Path, data: Collection, zipped: bool = True) -> Path:
        for stem, records in data.items():
            path = folder / f"{stem}.jsonl{'.gz' if zipped else ''}"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(record) + "\n" for record in records).encode()
            path.write_bytes(gzip.compress(text) if zipped else text)
        return folder

    return write


@pytest.fixture
def write_senteval() -> Callable[..., Path]:
    def write(folder: Path, data: Collection) -> Path:
        for task in TASKS[:5]:
            home = folder / "STS" / f"{task}-en-test"
            home.mkdir(parents=True)
            for subset in SUBSETS[task]:
                rows = [row for row in data[f"sts12-16/{task}"] if row["subset"] == subset]
                texts = "".join(f"{row['s1']}\t{row['s2']}\n" for row in rows)
                (home / f"STS.input.{subset}.txt").write_text(texts, encoding="utf-8")
                (home / f"STS.gs.{subset}.txt").write_text("".join(f"{row['score']}\n" for row in rows))
        home = folder / "STS" / "STSBenchmark"
        home.mkdir()
        lines = [
            f"main-captions\tMSRvid\t2012test\t{i:04}\t{row['score']}\t{row['s1']}\t{row['s2']}\n"
            for i, row in enumerate(data["stsbenchmark/test"])
        ]
        (home / "sts-test.csv").write_text("".join(lines), encoding="utf-8")
        home = folder / "SICK"
        home.mkdir()
        heading = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
        lines = [f"{i}\t{row['s1']}\t{row['s2']}\t{row['score']}\tNEUTRAL\n" for i, row in enumerate(data["sick/test"])]
        (home / "SICK_test_annotated.txt").write_text(heading + "".join(lines), encoding="utf-8")
        return folder

    return write
