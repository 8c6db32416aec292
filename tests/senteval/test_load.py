"""Loading one task or all: limits, protocols, names, and the real sets' official numbers."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from senteval import (
    OFFICIAL_PAIRS,
    PROTOCOLS,
    SUBSETS,
    TASKS,
    SentEvalError,
    load_suite,
    load_task,
)


def test_limit_is_a_seeded_sample_that_keeps_its_places(tmp_path, collection, write_jsonl):
    folder = write_jsonl(tmp_path, collection)
    whole = load_task("STS12", "senteval", folder)
    assert whole.index.tolist() == list(range(20))
    part = load_task("STS12", "senteval", folder, limit=7, seed=3)
    assert (len(part), part.total, len(set(part.index))) == (7, 20, 7)
    assert part.index.tolist() == sorted(part.index)
    for place, i in enumerate(part.index):
        assert part.text1[place] == whole.text1[i]
        assert part.text2[place] == whole.text2[i]
        assert part.gold[place] == whole.gold[i]
        assert part.subset[place] == whole.subset[i]
    assert part.fingerprint != whole.fingerprint
    assert load_task("STS12", "senteval", folder, limit=7, seed=3).fingerprint == part.fingerprint
    others = [load_task("STS12", "senteval", folder, limit=7, seed=seed).index.tolist() for seed in (4, 5)]
    assert part.index.tolist() not in others
    assert load_task("STS12", "senteval", folder, limit=99).fingerprint == whole.fingerprint
    for limit in (0, -1):
        with pytest.raises(SentEvalError, match="limit must be at least 1"):
            load_task("STS12", "senteval", folder, limit=limit)


def test_suite_is_in_the_tables_order_and_takes_a_selection(tmp_path, collection, write_jsonl):
    folder = write_jsonl(tmp_path, collection)
    suite = load_suite("mteb", folder, tasks=["sick", "STS13"], limit=2)
    assert list(suite) == ["STS13", "SICK-R"]
    assert {task.protocol for task in suite.values()} == {"mteb"}
    assert {len(task) for task in suite.values()} == {2}


def test_data_folder_from_the_environment_is_read_at_the_call(tmp_path, collection, write_jsonl, monkeypatch):
    monkeypatch.setenv("EMBED_DATA", str(write_jsonl(tmp_path / "data", collection)))
    assert len(load_task("STS13", "senteval")) == 12
    with pytest.raises(SentEvalError, match="neither"):  # the flag wins
        load_task("STS13", "senteval", tmp_path)


def test_incomplete_data_is_said(tmp_path, collection, write_jsonl, caplog):
    with caplog.at_level(logging.WARNING, logger="senteval"):
        task = load_task("STS16", "senteval", write_jsonl(tmp_path, collection))
    assert not task.complete
    assert "20 pairs" in caplog.text
    assert "official 1186" in caplog.text


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(SentEvalError, match="unknown protocol 'sts'; choose one of: senteval, mteb"):
        load_task("STS12", "sts", tmp_path)
    with pytest.raises(SentEvalError, match=r"unknown task 'STSBenchmrk'; did you mean STSBenchmark\?"):
        load_suite("mteb", tmp_path, tasks=["STSBenchmrk"])


def test_importing_senteval_loads_nothing_of_ours_and_no_heavy_library():
    code = (
        "import sys, senteval; "
        "print([m for m in ('common', 'benchmarks', 'torch', 'datasets', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_real_sets_have_the_official_numbers(shared_data, protocol):
    suite = load_suite(protocol, shared_data)
    sizes = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186, "STSBenchmark": 1379}
    sizes["SICK-R"] = {"senteval": 4927, "mteb": 9927}[protocol]
    assert {name: len(task) for name, task in suite.items()} == sizes == OFFICIAL_PAIRS[protocol]
    assert all(task.complete for task in suite.values())
    for name in TASKS[:5]:
        assert list(Counter(suite[name].subset).items()) == list(SUBSETS[name].items())
    assert sum(map(len, SUBSETS.values())) == 24
    for name, task in suite.items():
        low = 1.0 if name == "SICK-R" else 0.0
        assert (task.gold.min(), task.gold.max()) == (low, 5.0)


def letters(text: str) -> str:
    """Without white space, and without the control character that Moses drops from one text of STS12."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())


@pytest.mark.shared
def test_the_real_protocols_differ_as_described(shared_data):
    tokenised, raw = load_suite("senteval", shared_data), load_suite("mteb", shared_data)
    for name in TASKS[:6]:  # the same pairs
        assert np.array_equal(tokenised[name].gold, raw[name].gold)
        for a, b in zip(tokenised[name].text1, raw[name].text1):
            assert letters(a) == letters(b.lower())
        assert not any(text != text.lower() for text in tokenised[name].text1)
        assert any(text != text.lower() for text in raw[name].text1) == (name == "STSBenchmark")
    for name in TASKS[5:]:
        assert tokenised[name].fingerprint != raw[name].fingerprint
    assert np.array_equal(tokenised["SICK-R"].gold, raw["SICK-R"].gold[-4927:])


# Characters of all first and all second texts that mteb 2.26 publishes for its own copies on the hub
# (descriptive_stats/STS/*.json): STS12-16 hold the tokenised, lower-cased text there; SICK-R and (up to 13
# characters, so not here) STSBenchmark the raw one.
MTEB_CHARACTERS = {
    "STS12": (198256, 203862),
    "STS13": (93101, 68848),
    "STS14": (212331, 194854),
    "STS15": (173466, 172976),
    "STS16": (77704, 77098),
    "SICK-R": (462620, 452997),
}


@pytest.mark.shared
def test_which_text_mteb_publishes(shared_data):
    for name, published in MTEB_CHARACTERS.items():
        task = load_task(name, "mteb", shared_data)
        assert (sum(map(len, task.text1)), sum(map(len, task.text2))) == published
