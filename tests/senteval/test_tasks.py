"""The frozen record of a task: names, checks, fingerprint, AnglE's blanks."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from senteval import PairTask, SentEvalError, blank_padded, load_task, task_name, task_names


def small(**changes):
    fields = {
        "name": "STS13",
        "protocol": "senteval",
        "text1": ["a", "b c"],
        "text2": ["d", "e"],
        "gold": np.array([1.0, 4.5]),
        "subset": ["FNWN", "OnWN"],
        "source": "here",
        "index": np.arange(2),
        "total": 2,
        "max_words": {"FNWN": 1, "OnWN": 2},
    }
    return PairTask(**{**fields, **changes})


def test_names():
    assert task_names("senteval") == task_names("mteb")
    assert task_names("mteb")[-2:] == ("STSBenchmark", "SICK-R")
    written = ["sts12", "STS-B", "stsb", "SICK-R", "SICKRelatedness"]
    assert [task_name(name) for name in written] == [
        "STS12",
        "STSBenchmark",
        "STSBenchmark",
        "SICK-R",
        "SICK-R",
    ]


def test_fingerprint_follows_the_content_only():
    task = small()
    assert len(task.fingerprint) == 64
    assert small(source="there").fingerprint == task.fingerprint
    changes = [
        {"text1": ["a", "b  c"]},
        {"text2": ["e", "d"]},
        {"gold": np.array([1.0, np.nextafter(4.5, 5)])},
        {"subset": ["FNWN", "FNWN"]},
        {"text1": ["ad", "b c"], "text2": ["", "e"]},
    ]
    assert len({replace(task, **change).fingerprint for change in changes} | {task.fingerprint}) == 6


def test_the_record_is_frozen_and_checked():
    task = small()
    with pytest.raises(FrozenInstanceError):
        task.name = "STS12"
    with pytest.raises(ValueError, match="read-only"):
        task.gold[0] = 3
    with pytest.raises(SentEvalError, match="differ in length"):
        small(text2=["d"])


def test_blanks_are_those_of_the_padded_word_lists(tmp_path, collection, write_senteval):
    folder = write_senteval(tmp_path, collection)
    home = folder / "STS" / "STS15-en-test"
    # An ungraded pair with the longest text of its subset, as in the official files of 2015 and 2016.
    with (home / "STS.input.images.txt").open("a") as texts, (home / "STS.gs.images.txt").open("a") as grades:
        texts.write("short\t" + " ".join(["word"] * 30) + "\n")
        grades.write("\n")
    task = load_task("STS15", "senteval", folder)
    padded = blank_padded(task)
    for name in task.subsets:
        lines = (home / f"STS.input.{name}.txt").read_text().splitlines()
        longest = max(len(text.split()) for line in lines for text in line.split("\t"))
        rows = [i for i, subset in enumerate(task.subset) if subset == name]
        assert len(rows) == 4
        for before, after in ((task.text1, padded.text1), (task.text2, padded.text2)):
            for i in rows:
                words = before[i].split()
                assert after[i] == " ".join(words + [""] * (longest - len(words)))
    assert max(map(len, padded.text1)) > 30
    assert padded.fingerprint != task.fingerprint
    assert blank_padded(load_task("STS-B", "senteval", folder)).text1[0].split(" ")[-1] == "."
    with pytest.raises(SentEvalError, match="senteval protocol only"):
        blank_padded(replace(task, protocol="mteb"))
