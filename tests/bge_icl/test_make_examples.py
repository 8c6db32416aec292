"""bge_icl/make_examples.py: from the training split alone, the same for a seed, cut by tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_retrieval import make_sets, write_rows

from benchmarks import mteb_local, mteb_tasks
from benchmarks.retrieval_sets import SETS, load_set
from bge_icl.example_files import read_examples
from bge_icl.local_tasks import TASK_NAMES, local_instruction
from bge_icl.make_examples import Source, draw_examples, pairs_source, source_of, task_name, token_cutter
from common.errors import InputError
from common.overlap import key


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("name", list(SETS))
def test_examples_are_training_pairs_and_no_test_queries(data_dir: Path, name: str) -> None:
    train, test = load_set(name, data_dir, "train"), load_set(name, data_dir)
    right = {(train.queries[q], train.corpus[p]) for q, judged in train.qrels.items() for p in judged}
    for seed in range(3):
        found = draw_examples(source_of(TASK_NAMES[name], data_dir), 3, seed)
        assert {(e.query, e.response) for e in found} <= right
        assert not {key(e.query) for e in found} & {key(q) for q in test.queries.values()}


@pytest.mark.parametrize("name", list(SETS))
def test_on_real_data(shared_data: Path, name: str) -> None:
    test = load_set(name, shared_data)
    source = source_of(name, shared_data)
    relevant = {key(test.corpus[p]) for judged in test.qrels.values() for p in judged}
    for seed in range(3):
        found = draw_examples(source, 5, seed)
        assert len({e.query for e in found}) == len({e.response for e in found}) == 5
        assert not {key(e.query) for e in found} & {key(q) for q in test.queries.values()}
        assert not {key(e.response) for e in found} & relevant
    assert local_instruction(name).startswith("Given a ")


def test_more_shots_begin_with_those_of_fewer(data_dir: Path) -> None:
    source = source_of("SciFact", data_dir)
    five = draw_examples(source, 5, seed=1)
    for n in range(6):
        assert draw_examples(source, n, seed=1) == five[:n]
    assert any(draw_examples(source, 5, seed=seed) != five for seed in range(2, 6))


def test_a_test_query_in_the_training_split_is_passed_over() -> None:
    pairs = [("seen", ["a"]), ("new", ["b", "answers a test query"]), ("NEW ", ["c"]), ("", ["d"]), ("same", ["Same"])]
    source = Source("made", pairs, frozenset({"seen"}), frozenset({key("answers a test query")}))
    for seed in range(5):
        (example,) = draw_examples(source, 1, seed)
        assert (example.query.strip().lower(), example.response) in {("new", "b"), ("new", "c")}
    with pytest.raises(InputError, match="made: 1 examples can be taken from 5 pairs, not 2"):
        draw_examples(source, 2)


def test_labels_come_before_their_second_examples() -> None:
    pairs = [(f"text {i}", ["rare" if i == 7 else "common"]) for i in range(30)]
    source = Source("made", pairs, frozenset(), labels=True)
    found = draw_examples(source, 3)
    assert sorted(e.response for e in found[:2]) == ["common", "rare"]
    assert draw_examples(replace(source, pairs=pairs), 2) == found[:2]


def test_labels_and_pairs_of_mteb_tasks(shared_data: Path) -> None:
    emotions = draw_examples(source_of("EmotionClassification", shared_data), 6)
    assert len({e.response for e in emotions}) == 6
    intents = draw_examples(source_of("banking77classification", shared_data), 5)
    assert not any("_" in e.response for e in intents)
    counterfactual = draw_examples(source_of("AmazonCounterfactualClassification", shared_data), 2)
    assert {e.response for e in counterfactual} == {"counterfactual", "not-counterfactual"}
    assert len(draw_examples(source_of("STSBenchmark", shared_data), 3)) == 3


def test_no_example_is_a_text_that_mteb_tests(shared_data: Path) -> None:
    """Where the names of the files say something else: the clusters are of the training part."""
    for name in ("TwentyNewsgroupsClustering", "AmazonCounterfactualClassification"):
        task = mteb_tasks.get_tasks(None, [name])[0]
        local = mteb_local.find(task, shared_data)
        assert local is not None
        local.serve(task)
        data: Any = task.dataset
        data = data["en"]["test"] if "en" in data else data["test"]
        column = "text" if "text" in data.column_names else "sentences"
        texts = [text for value in data[column] for text in ([value] if column == "text" else value)]
        source = source_of(name, shared_data)
        tested = {key(text) for text in texts}
        assert tested <= source.test_queries
        assert len(source.pairs) > 3000
        for seed in range(3):
            assert not {key(e.query) for e in draw_examples(source, 5, seed)} & tested


def test_a_subject_is_drawn_without_what_replies_put_before_it(tmp_path: Path) -> None:
    for file, subjects in (("test", ["Re: RE: rain", "re:wool", "salt"]), ("train", ["Rain", "Re: clay"])):
        rows = [{"subject": subject, "label": "weather"} for subject in subjects]
        write_rows(tmp_path / "twenty_newsgroups" / f"{file}.jsonl.gz", rows)
    found = draw_examples(source_of("TwentyNewsgroupsClustering", tmp_path), 2)
    assert {e.query for e in found} == {"wool", "salt"}


def test_files_need_not_be_zipped(tmp_path: Path) -> None:
    rows = {"train": ["a card", "a rate"], "test": ["a card"]}
    for file, texts in rows.items():
        lines = [json.dumps({"text": text, "label": "some_label"}) + "\n" for text in texts]
        (tmp_path / "banking77").mkdir(exist_ok=True)
        (tmp_path / "banking77" / f"{file}.jsonl").write_text("".join(lines), encoding="utf-8")
    (example,) = draw_examples(source_of("Banking77Classification", tmp_path), 1)
    assert (example.query, example.response) == ("a rate", "some label")
    with pytest.raises(InputError, match=r"emotion.train\.jsonl\.gz: no such file, and no train\.jsonl"):
        source_of("EmotionClassification", tmp_path)


def test_cut_by_tokens(llama_folder: Path, data_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    source = source_of("SciFact", data_dir)
    whole = draw_examples(source, 4)
    cut = draw_examples(source, 4, cut=token_cutter(tokenizer), limits=(4, 6))
    for one, short in zip(whole, cut):
        for text, shorter, limit in ((one.query, short.query, 4), (one.response, short.response, 6)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert shorter == (tokenizer.decode(ids[:limit]) if len(ids) > limit else text)
            assert len(shorter) < len(text)
    assert draw_examples(source, 4, cut=token_cutter(tokenizer), limits=(99, 99)) == whole


def test_the_program(program: Callable[..., Any], data_dir: Path, llama_folder: Path, tmp_path: Path) -> None:
    words = ["--data_dir", data_dir, "--tokenizer", llama_folder, "--output", tmp_path / "made"]
    done = program("bge_icl/make_examples.py", "--task", "scifact", "WikiQA", *words, "--n", 2, "--seed", 3)
    assert done.code == 0, done.err
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        *("SciFact.json", "WikiQA.json", "made_SciFact.txt", "made_WikiQA.txt")
    ]
    assert len(read_examples(tmp_path / "made", "SciFact")) == 2
    rows = json.loads((tmp_path / "made" / "WikiQA.json").read_text(encoding="utf-8"))
    assert all(set(row) == {"query", "response"} for row in rows)
    assert "seed 3" in (tmp_path / "made" / "made_SciFact.txt").read_text(encoding="utf-8")
    assert "SciFact.json: 2 examples" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "SciFacts"], "did you mean SciFact?"),
        (["--task", "Nothing"], "known: SciFact, NFCorpus"),
        (["--task", "twitterurlcorpus"], "TwitterURLCorpus: MTEB tests on both of its files"),
        (["--task", "SciFact", "--n", "0"], "--n 0: must be at least 1"),
        (["--task", "SciFact", "--n", "50"], "50"),
        (["--task", "Own", "--pairs", "x.jsonl"], "--pairs and --test belong together"),
        (["--task", "A", "B", "--pairs", "x.jsonl", "--test", "y.jsonl"], "give one --task"),
    ],
)
def test_wrong_use(
    program: Callable[..., Any], data_dir: Path, llama_folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    more = ["--data_dir", data_dir, "--output", tmp_path / "made", "--tokenizer", llama_folder]
    done = program("bge_icl/make_examples.py", *words, *more)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "made").exists()


def test_pairs_of_ones_own(tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl.gz", [{"query": f"q{i}", "pos": [f"r{i}", f"s{i}"]} for i in range(4)])
    test = write_rows(tmp_path / "test.jsonl.gz", [{"query": "Q1"}, {"query": "q2"}])
    found = draw_examples(pairs_source(pairs, test), 2)
    assert {e.query for e in found} == {"q0", "q3"}
    assert {e.response[1:] for e in found} == {"0", "3"}
    broken = write_rows(tmp_path / "broken.jsonl.gz", [{"query": "a"}])
    with pytest.raises(InputError, match="needs query, and response or pos; has query"):
        pairs_source(broken, test)


def test_names() -> None:
    assert task_name("squad_nqg") == task_name("SQUAD-nqg") == "SQuAD-NQG"
