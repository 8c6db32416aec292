"""benchmarks/retrieval_sets.py: the sets as they are in the files, limits, what training and test share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_retrieval import make_sets, write_rows

from benchmarks.retrieval_sets import SETS, RetrievalSet, TrainingTexts, data_folder, load_set, training_texts
from common.errors import InputError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("split", ["test", "train"])
def test_every_query_has_an_answer_that_is_there(data_dir: Path, name: str, split: str) -> None:
    found = load_set(name, data_dir, split)  # type: ignore[arg-type]
    assert found.whole == (len(found.queries), len(found.corpus))
    assert list(found.qrels) == list(found.queries)
    for judged in found.qrels.values():
        assert judged
        assert set(judged) <= set(found.corpus)
        assert min(judged.values()) > 0


def test_scifact_reads_title_and_text(data_dir: Path) -> None:
    found = load_set("scifact", data_dir)
    assert found.corpus["d0"] == "On rain All about rain and rain."
    assert found.queries["0"] == "claims on rain"
    assert found.qrels["0"] == {"d0": 2, "d1": 1}
    assert not found.is_reranking


def test_nfcorpus_has_no_train_part(data_dir: Path) -> None:
    train = load_set("nfcorpus", data_dir, "train")
    assert "the dev questions stand for the missing train part" in train.notes
    assert train.qrels["6"] == {"d6": 2}  # the judgement of grade 0 is none
    assert not set(train.queries) & set(load_set("nfcorpus", data_dir).queries)


def test_wikiqa_ranks_its_own_candidates(data_dir: Path) -> None:
    found = load_set("wikiqa", data_dir)
    assert found.is_reranking
    assert found.candidates is not None
    # Two of the six questions have no right sentence among the four.
    assert len(found.queries) == 4
    assert "2 queries without a relevant passage left out" in found.notes
    query = next(q for q, text in found.queries.items() if text == "what is bread ?")
    assert [found.corpus[p] for p in found.candidates[query]] == [f"{t} is a thing ." for t in
                                                                   ("rain", "bread", "iron", "music")]  # fmt: skip
    assert [found.corpus[p] for p in found.qrels[query]] == ["bread is a thing ."]


def test_limits_keep_what_is_relevant_and_say_so(data_dir: Path) -> None:
    whole = load_set("scifact", data_dir)
    for seed in range(5):
        small = whole.limited(3, 5, seed=seed)
        assert (len(small.queries), len(small.corpus)) == (3, 5)
        assert all(set(judged) <= set(small.corpus) for judged in small.qrels.values())
        assert "limited to 3 of 6 queries and 5 of 12 passages" in small.notes[-1]
        assert small.queries == whole.limited(3, 5, seed=seed).queries
    assert len({tuple(whole.limited(3, 5, seed=seed).queries) for seed in range(5)}) > 1
    assert whole.limited().notes == whole.notes
    assert whole.limited(3, 5).fingerprint != whole.fingerprint
    # Relevant passages stay even where the limit is lower.
    assert set(whole.limited(None, 1).corpus) == {p for judged in whole.qrels.values() for p in judged}
    candidates = load_set("wikiqa", data_dir).limited(1, 2)
    assert len(candidates.corpus) == 4


def test_what_training_and_test_share(data_dir: Path, tmp_path: Path) -> None:
    tested = load_set("scifact", data_dir)
    found = TrainingTexts()
    found.add("Claims  on RAIN", ["On rain All about rain and rain."])  # case and white space do not count
    found.add("claims on bread", ["something else"], ["On iron All about iron and iron."])
    found.add("another question", ["On wool All about wool and wool."])
    overlap = found.overlap(tested)
    assert (overlap.queries, overlap.of_queries) == (2, 6)
    assert (overlap.relevant, overlap.of_relevant) == (2, 6)
    assert (overlap.corpus, overlap.of_corpus) == (3, 12)
    assert overlap.pairs == 1
    assert str(overlap).startswith("2 of 6 queries, 2 of 6 relevant passages, 3 of 12 passages, 1 whole pairs")
    rows = [{"query": "claims on rain", "pos": "On rain All about rain and rain."}, {"query": "a", "pos": ["b"]}]
    write_rows(tmp_path / "deep" / "a.jsonl.gz", rows)
    (tmp_path / "b.jsonl").write_text(json.dumps({"query": "q", "pos": ["claims on iron"], "neg": ["n"]}) + "\n")
    read = training_texts(tmp_path)
    assert read.rows == 3
    assert read.overlap(tested).pairs == 1
    assert read.overlap(tested).queries == 2  # in whichever role a text stands in training


def test_real_sets(shared_data: Path) -> None:
    sizes = {"scifact": (300, 5183), "nfcorpus": (323, 3395), "wikiqa": (243, 2309), "squad_nqg": (11804, 6652)}
    for name, size in sizes.items():
        assert load_set(name, shared_data).whole == size


def test_wrong_use(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="set 'msmarco' is not known; known: scifact"):
        load_set("msmarco", data_dir)
    with pytest.raises(InputError, match="has no folder scifact"):
        load_set("scifact", tmp_path)
    write_rows(tmp_path / "wikiqa" / "test.jsonl.gz", [{"question": "a", "text": "b"}])
    with pytest.raises(InputError, match=r"test.jsonl.gz:1: no column 'sentence' \(has question, text\)"):
        load_set("wikiqa", tmp_path)
    with pytest.raises(InputError, match=r"train.jsonl.gz: no such file"):
        load_set("wikiqa", tmp_path, "train")
    with pytest.raises(InputError, match=r"no \.jsonl files"):
        training_texts(tmp_path / "nothing")
    monkeypatch.delenv("EMBED_DATA", raising=False)
    with pytest.raises(InputError, match="missing: --data_dir"):
        data_folder(None)
    monkeypatch.setenv("EMBED_DATA", str(tmp_path))
    assert data_folder(None) == tmp_path
    with pytest.raises(InputError, match="no such folder"):
        data_folder(tmp_path / "x")


def test_a_set_without_answers(data_dir: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "wikiqa" / "test.jsonl.gz", [{"question": "a", "sentence": "b", "label": 0}])
    with pytest.raises(InputError, match="no query of the test split has a relevant passage"):
        load_set("wikiqa", tmp_path)


def test_the_hash_sees_everything(data_dir: Path) -> None:
    whole = load_set("wikiqa", data_dir)
    others: list[RetrievalSet] = [
        replace(whole, queries={**whole.queries, "q0": "other"}),
        replace(whole, corpus={**whole.corpus, "s0": "other"}),
        replace(whole, qrels={**whole.qrels, "q0": {"s1": 1}}),
        replace(whole, candidates=None),
    ]
    assert len({whole.fingerprint, *(other.fingerprint for other in others)}) == 5
