"""The hub reader, with `datasets` reading a local folder that has the hub's columns."""

from __future__ import annotations

import json
import time

import pytest

from senteval import SentEvalError, hub, load_task

datasets = pytest.importorskip("datasets")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder that `load_dataset` opens in place of the data set of STS13."""
    folder = tmp_path / "sts13-sts"
    folder.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setitem(hub.HUB_DATASETS, "STS13", (str(folder), "main"))
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    return folder


def write(folder, rows):
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_columns_of_the_hub(repository):
    rows = [
        {"sentence1": f"The {word}.", "sentence2": "A  cat.", "score": i / 2}
        for i, word in enumerate(["dog", "cow", "sea"])
    ]
    write(repository, rows)
    write(repository, rows)
    task = load_task("STS13", "mteb")
    assert task.text1 == ["The dog.", "The cow.", "The sea."]
    assert task.text2 == ["A  cat."] * 3
    assert task.gold.tolist() == [0.0, 0.5, 1.0]
    assert task.subsets == ("all",)
    assert task.source == f"hub: {repository}@main"
    assert not task.complete
    assert not datasets.config.HF_HUB_OFFLINE


def test_other_columns_and_bad_rows_are_refused(repository):
    write(repository, [{"text1": "a", "sentence2": "b", "score": 1.0}])
    with pytest.raises(SentEvalError, match=r"no column sentence1; it has \['text1', "):
        load_task("STS13", "mteb")
    write(repository, [{"sentence1": "a", "sentence2": "b", "score": s} for s in (1.0, 7.0)])
    with pytest.raises(SentEvalError, match=r"row 2: the grade is not between 0 and 5: 7\.0"):
        load_task("STS13", "mteb")


def test_an_unreachable_hub_is_a_quick_error_that_names_the_flag(repository, monkeypatch):
    monkeypatch.setitem(hub.HUB_DATASETS, "STS13", ("nobody/has-this-set", "main"))
    with pytest.raises(SentEvalError, match=r"can't be read from the hub.*--data_dir") as caught:
        load_task("STS13", "mteb")
    assert "OfflineModeIsEnabled" in str(caught.value)  # not asked at all: asking costs 25 seconds of retries
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_once_and_not_for_long(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    hub.hub_answers.cache_clear()
    try:
        start = time.perf_counter()
        assert not hub.hub_answers()
        assert not hub.hub_answers()
        assert time.perf_counter() - start < 15
        assert hub.hub_answers.cache_info().misses == 1
    finally:
        hub.hub_answers.cache_clear()


def test_the_senteval_protocol_needs_its_own_files():
    with pytest.raises(SentEvalError, match=r"scripts/download_data\.sh data`, then give --data_dir data"):
        load_task("STS12", "senteval")


def test_the_revisions_are_those_that_mteb_reads():
    mteb = pytest.importorskip("mteb")
    for name, (repo, revision) in hub.HUB_DATASETS.items():
        dataset = mteb.get_task(name).metadata.dataset
        assert (dataset["path"], dataset["revision"]) == (repo, revision)
