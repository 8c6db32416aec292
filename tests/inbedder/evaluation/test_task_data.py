"""Task data: our layouts, the published ones, what is missing, and seeded samples."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from inbedder.evaluation.task_data import Clustering, MissingData, Pairs, Reranking, Triplets, read_task
from inbedder.evaluation.tasks import all_tasks, find_tasks

TASKS = all_tasks()


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inbedder.evaluation.task_data.hub_reachable", lambda: False)
    monkeypatch.delenv("EMBED_DATA", raising=False)


# ------------------------------ real data


def test_syngoalex_is_one_corpus_with_three_aspects(shared_data: Path) -> None:
    parts = []
    for task in find_tasks(["SynGoalEx"]):
        (part,) = read_task(task, shared_data).parts
        assert isinstance(part, Clustering)
        assert sorted(Counter(part.labels).values()) == [256] * 4
        parts.append(part)
    assert parts[0].texts == parts[1].texts == parts[2].texts
    assert len({tuple(part.labels) for part in parts}) == 3


@pytest.mark.parametrize(("name", "texts", "labels"), [("FewRel", 11200, 16), ("Feedbacks", 756, 3),
                                                        ("TwentyNewsgroups", 7532, 20)])  # fmt: skip
def test_real_sets_are_read_whole(shared_data: Path, name: str, texts: int, labels: int) -> None:
    (task,) = find_tasks([name])
    data = read_task(task, shared_data)
    (part,) = data.parts
    assert isinstance(part, Clustering)
    assert (data.total, len(set(part.labels))) == (texts, labels)
    assert all(text.strip() for text in part.texts)
    # One layout is the published set itself; the others say that they are not.
    assert (data.protocol == "published") == (name == "Feedbacks")


# ------------------------------ layouts


def test_fewrel_has_its_entities_behind_the_sentence(tmp_path: Path) -> None:
    row = {
        "tokens": ["The", "Old", "Mill", " ", "lies", "on", "the", "Ems", "."],
        "h": [[1, 2]],
        "t": [[7]],
        "head": "old mill",
        "relation_name": "located in",
    }
    write_rows(tmp_path / "fewrel" / "val_wiki.jsonl.gz", [row])
    (part,) = read_task(TASKS["FewRelClustering"], tmp_path).parts
    assert part == Clustering(["The Old Mill lies on the Ems . Old Mill, Ems"], ["located in"])


def test_newsgroups_are_subject_lines_without_reply_marks(tmp_path: Path) -> None:
    rows = [{"subject": s, "label": "a"} for s in ("Re: RE: fw: old cars", "Reason and  rhyme", "re:Fwd: Regret")]
    write_rows(tmp_path / "twenty_newsgroups" / "test.jsonl.gz", rows)
    (part,) = read_task(TASKS["TwentyNewsgroupsClustering"], tmp_path).parts
    assert isinstance(part, Clustering)
    assert part.texts == ["old cars", "Reason and  rhyme", "Regret"]


def test_a_row_without_its_columns_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "fewrel" / "val_wiki.jsonl.gz", [{"tokens": ["a"], "relation_name": "x"}])
    with pytest.raises(InputError, match=r"val_wiki\.jsonl\.gz:1: not a row of this set .*'h'"):
        read_task(TASKS["FewRelClustering"], tmp_path)


def test_subsets_of_a_published_set(tmp_path: Path) -> None:
    write_rows(tmp_path / "NYTClustering" / "topic" / "test.jsonl", [{"text": "a", "cluster": "x"}])
    write_rows(tmp_path / "NYTClustering" / "location.jsonl.gz", [{"text": "b", "cluster": 3}])
    topic = read_task(TASKS["NYTTopicClustering"], tmp_path)
    assert topic.parts == [Clustering(["a"], ["x"])]
    assert topic.source == "NYTClustering/topic/test.jsonl"
    assert read_task(TASKS["NYTLocationClustering"], tmp_path).parts == [Clustering(["b"], ["3"])]


def test_rows_of_mteb_are_sets(tmp_path: Path) -> None:
    rows = [{"sentences": ["a", "b"], "labels": [0, 1]}, {"sentences": ["c"], "labels": [1]}]
    write_rows(tmp_path / "twentynewsgroups-clustering" / "test.jsonl", rows)
    data = read_task(TASKS["TwentyNewsgroupsClustering"], tmp_path)
    assert data.parts == [Clustering(["a", "b"], ["0", "1"]), Clustering(["c"], ["1"])]
    assert data.size == 3
    assert data.protocol == "published"


def test_triplets_of_two_subsets(tmp_path: Path) -> None:
    for subset in ("emotion", "intent"):
        write_rows(tmp_path / "IntentEmotion" / subset / "test.jsonl",
                   [{"anchor": f"{subset} a", "positive": "p", "negative": "n"}])  # fmt: skip
    parts = read_task(TASKS["IntentEmotion"], tmp_path).parts
    assert parts == [Triplets(["emotion a"], ["p"], ["n"]), Triplets(["intent a"], ["p"], ["n"])]


def test_pairs_bring_their_own_instruction(tmp_path: Path) -> None:
    row = {"sentence1": "a", "sentence2": "b", "score": 1, "instruction": "why?"}
    write_rows(tmp_path / "InstructSTSB" / "test.jsonl", [row])
    assert read_task(TASKS["InstructSTSBenchmark"], tmp_path).parts == [Pairs(["a"], ["b"], [1.0], ["why?"])]


def test_an_instruction_in_some_pairs_only_is_refused(tmp_path: Path) -> None:
    row = {"sentence1": "a", "sentence2": "b", "score": 1}
    write_rows(tmp_path / "InstructSTSB" / "test.jsonl", [{**row, "instruction": "Who?"}, row])
    with pytest.raises(InputError, match=r"not the columns of InstructSTSBenchmark .*some rows have an instruction"):
        read_task(TASKS["InstructSTSBenchmark"], tmp_path)


def test_reranking_drops_and_counts_what_can_not_be_ranked(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": "q", "positive": ["p"], "negative": ["n", "m"]},
        {"query": ["q1", "q2"], "positive": ["p"], "negative": ["n"]},
        {"query": "q", "positive": [], "negative": ["n"]},
        {"query": "q", "positive": ["p"], "negative": []},
    ]
    write_rows(tmp_path / "askubuntudupquestions-reranking" / "test.jsonl.gz", rows)
    (part,) = read_task(TASKS["AskUbuntuDupQuestions"], tmp_path).parts
    assert part == Reranking([["q"], ["q1", "q2"]], [["p"], ["p"]], [["n", "m"], ["n"]], dropped=2)


# ------------------------------ missing


def test_a_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"no RateMyProfClustering/ in .*hub \(BrandonZYW/RateMyProf.*not answer"):
        read_task(TASKS["RateMyProfClustering"], tmp_path)
    with pytest.raises(MissingData, match=r"no goalex/syngoalex\.jsonl\.gz in .*not on the hub"):
        read_task(TASKS["SynGoalExTopic"], tmp_path)
    with pytest.raises(MissingData, match="no --data_dir"):
        read_task(TASKS["FewNerdClustering"])


def test_a_task_that_is_not_run_here_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"a retrieval task.*mteb"):
        read_task(TASKS["DBPedia"], tmp_path)


def test_the_folder_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "FewNerdClustering" / "test.jsonl", [{"text": "a", "cluster": "x"}])
    monkeypatch.setenv("EMBED_DATA", str(tmp_path))
    assert read_task(TASKS["FewNerdClustering"]).size == 1


# ------------------------------ samples


def test_a_limit_is_a_seeded_sample_in_order(tmp_path: Path) -> None:
    rows = [{"text": f"t{i:02}", "cluster": i % 3} for i in range(40)]
    write_rows(tmp_path / "FewNerdClustering" / "test.jsonl", rows)
    first, again, other = (read_task(TASKS["FewNerdClustering"], tmp_path, limit=10, seed=seed) for seed in (0, 0, 1))
    (part,) = first.parts
    assert isinstance(part, Clustering)
    assert first.parts == again.parts != other.parts
    assert (first.size, first.total) == (10, 40)
    assert part.texts == sorted(part.texts)
    assert part.texts != [f"t{i:02}" for i in range(10)]
    assert [int(text[1:]) % 3 for text in part.texts] == [int(label) for label in part.labels]
    assert first.fingerprint == again.fingerprint != other.fingerprint
