"""bge_icl/air_bench.py, air_bench_sets.py and their part of eval.py.

What needs the optional package air-benchmark is skipped without it; its data sets are then read from local copies, by
the package's own loader.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bge_icl import air_bench
from bge_icl.air_bench import AirRetriever
from bge_icl.air_bench_sets import PAPER_VERSION, AirSet, examples_place, find_sets
from bge_icl.eval import EvalConfig, IclMtebEncoder, evaluate_air_bench, read_air_prompts, run
from common.errors import InputError

QUESTION = "Given a question, retrieve passages that answer the question."
LAW = AirSet("AIR-Bench_24.05", "qa", "law", "en", "default", ("dev", "test"))
BOOK = AirSet("AIR-Bench_24.05", "long-doc", "book", "en", "a-brief-history-of-time_stephen-hawking", ("dev",))
CORPUS = {f"d{i}": text for i, text in enumerate([
    "A contract needs an offer and its acceptance.", "Snow fell on the court.", "Theft is taking what is not yours.",
    "The judge reads the verdict.", "A will names the heirs.", "Bread is warm.", "A lease ends after a year.",
])}  # fmt: skip
DEV = {"q0": "What does a contract need?", "q1": "Who reads the verdict?", "q2": "What is theft?"}
TEST = {"q0": "What names the heirs?"}  # an id that the dev split has, too
QRELS = [("q0", "d0", 1), ("q1", "d3", 1), ("q1", "d1", 0), ("q2", "d2", 1), ("q2", "d6", 1)]


def write_set(folder: Path, name: str, version: str, parts: dict[str, list[dict[str, Any]]]) -> None:
    """A data set as the hub has it: a card that says which file is which split of which configuration."""
    place = folder / "AIR-Bench" / name
    place.mkdir(parents=True)
    files = "".join(f"  - split: {part}\n    path: {part}.jsonl\n" for part in parts)
    card = f"---\nconfigs:\n- config_name: {version}\n  data_files:\n{files}---\n"
    (place / "README.md").write_text(card, encoding="utf-8")
    for part, rows in parts.items():
        (place / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [{"id": i, "text": text} for i, text in texts.items()]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    qrels = [{"qid": q, "docid": d, "relevance": r} for q, d, r in QRELS]
    parts = {
        "corpus_default": rows(CORPUS),
        "queries_default_dev": rows(DEV),
        "queries_default_test": rows(TEST),
    }
    write_set(folder, "qa_law_en", "AIR-Bench_24.05", parts)
    write_set(folder, "qrels-qa_law_en-dev", "AIR-Bench_24.05", {"qrels_default_dev": qrels})
    name = "a_brief_history_of_time_stephen_hawking"
    book = {f"corpus_{name}": rows(CORPUS), f"queries_{name}_dev": rows(DEV)}
    write_set(folder, "long-doc_book_en", "AIR-Bench_24.05", book)
    write_set(folder, "qrels-long-doc_book_en-dev", "AIR-Bench_24.05", {f"qrels_{name}_dev": qrels})
    return folder


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder as published, with a file of MTEB whose name differs from one of AIR-Bench by its case alone."""
    root = tmp_path / "examples"
    for name, text in (
        ("AIR-Bench/qa/law.jsonl", "law"),
        ("AIR-Bench/qa/msmarco.jsonl", "air"),
        ("AIR-Bench/long-doc/book-a-brief-history-of-time_stephen-hawking.jsonl", "book"),
        ("MTEB/MSMARCO.json", "mteb"),
    ):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        key = "response" if file.suffix == ".json" else "pos"
        file.write_text(json.dumps({"query": f"query of {text}", key: f"answer of {text}"}) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def config(data: Path, tmp_path: Path, llama_folder: Path) -> Callable[..., EvalConfig]:
    def make(**changes: Any) -> EvalConfig:
        settings = {"model_name_or_path": str(llama_folder), "dtype": "float32", "device": "cpu", "data_dir": data,
                    "benchmark": "AIR-Bench_24.05", "task_types": ["qa"], "domains": ["law"], "max_length": 100,
                    "output": tmp_path / "out"}  # fmt: skip
        return EvalConfig(**{**settings, **changes})

    return make


def retriever(config: EvalConfig, one: AirSet, **options: Any) -> AirRetriever:
    return AirRetriever(IclMtebEncoder(config.load(), read_air_prompts(config, [one])), one, **options)


# ------------------------------ without the package


def test_without_the_package_one_line_says_what_brings_it(
    config: Callable[..., EvalConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "air_benchmark", None)
    with pytest.raises(InputError, match=r"^--benchmark AIR-Bench: needs its own package .*pip install air-benchmark$"):
        run(config(benchmark="AIR-Bench", model_name_or_path="no/such-model"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"tasks": ["SciFact"]}, "--tasks: those of AIR-Bench are chosen by --task_types"),
        ({"examples": "auto"}, "--examples auto: AIR-Bench has no training split"),
        ({"instructions": "mteb"}, "--instructions mteb: mteb has none for AIR-Bench"),
        ({"benchmark": None, "tasks": ["SciFact"]}, "--task_types: is of --benchmark AIR-Bench"),
    ],
)
def test_wrong_use_is_told(words: dict[str, Any], told: str, config: Callable[..., EvalConfig]) -> None:
    with pytest.raises(InputError, match=told):
        config(**words)


def test_the_names_of_example_files_are_the_published_ones(examples: Path, config: Callable[..., EvalConfig]) -> None:
    msmarco = replace(LAW, domain="msmarco")
    found = read_air_prompts(config(examples=str(examples)), [LAW, BOOK, msmarco]).examples
    assert [found[one.name][0].query for one in (LAW, BOOK, msmarco)] == [
        "query of law", "query of book", "query of air",
    ]  # fmt: skip
    flat = examples_place(examples / "AIR-Bench/qa", LAW)
    assert flat == examples / "AIR-Bench/qa"
    with pytest.raises(InputError, match=r"has no law_zh\.json"):
        read_air_prompts(config(examples=str(examples)), [replace(LAW, language="zh")])


def test_a_users_file_may_have_an_instruction_per_set(config: Callable[..., EvalConfig], tmp_path: Path) -> None:
    file = tmp_path / "instructions.json"
    file.write_text(json.dumps({"AIR-Bench": "Find it.", "qa_law_en_default": "Find the law."}), encoding="utf-8")
    found = read_air_prompts(config(instructions=str(file)), [LAW, BOOK])
    assert [found.of(one.metadata).instruction for one in (LAW, BOOK)] == ["Find the law.", "Find it."]
    assert read_air_prompts(config(), [LAW]).of(LAW.metadata).instruction == QUESTION


@pytest.mark.parametrize("chunk", [2, 3, 100])
def test_the_best_documents_are_those_of_a_search_by_hand(
    chunk: int, config: Callable[..., EvalConfig], examples: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bge_icl import FlagICLModel

    monkeypatch.setattr(air_bench, "CHUNK", chunk)
    found = retriever(config(examples=str(examples)), LAW, search_top_k=4)(
        {i: {"text": text} for i, text in CORPUS.items()}, DEV, language="en"
    )
    model = FlagICLModel(
        str(llama_folder), query_instruction_for_retrieval=QUESTION, use_fp16=False, query_max_length=100,
        examples_for_task=[{"query": "query of law", "response": "answer of law"}], devices="cpu",
    )  # fmt: skip
    scores = (
        np.asarray(model.encode_queries(list(DEV.values()))) @ np.asarray(model.encode_corpus(list(CORPUS.values()))).T
    )
    names = list(CORPUS)
    for query, row in zip(DEV, scores):
        best = [names[i] for i in np.argsort(-row)[:4]]
        assert list(found[query]) == best
        np.testing.assert_allclose(list(found[query].values()), np.sort(row)[::-1][:4], atol=1e-5)


def test_the_first_query_is_logged_with_its_examples_and_documents_have_none(
    config: Callable[..., EvalConfig], examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = retriever(config(examples=str(examples)), LAW)
    asked({"d": {"text": "A will names the heirs."}}, DEV)
    first = asked.adapter.first["qa_law_en_default"]
    prompt = f"<instruct>{QUESTION}\n<query>query of law\n<response>answer of law\n\n" + (
        f"<instruct>{QUESTION}\n<query>What does a contract need?\n<response>"
    )
    assert prompt in first["query"]["text"]
    assert prompt in caplog.text
    assert first["query"]["examples_tokens"] > 10
    assert first["document"]["text"].removeprefix("<|begin|>") == "A will names the heirs.<|end|>"
    assert str(asked).endswith("-few-shot")
    assert str(retriever(config(), LAW)).endswith("-zero-shot")
    with pytest.raises(InputError, match="has 0 documents and 3 queries"):
        asked({}, DEV)


# ------------------------------ with the package


def test_the_sets_are_the_packages_own(config: Callable[..., EvalConfig]) -> None:
    pytest.importorskip("air_benchmark")
    published = config(benchmark="AIR-Bench", task_types=[], domains=[])
    sets = find_sets("AIR-Bench", published)
    assert {one.version for one in sets} == {PAPER_VERSION}
    counts = {kind: sum(one.task_type == kind for one in sets) for kind in ("qa", "long-doc")}
    assert counts == {"qa": 8, "long-doc": 15}  # the columns of Tables 2 and 3 of the paper
    assert {split for one in sets for split in one.splits} == {"test"}
    assert find_sets("air-bench_24.05", config()) == [LAW]
    assert find_sets("AIR-Bench_24.05", config(task_types=["long-doc"], domains=["book"], splits=["dev"])) == [BOOK]
    for words, told in (
        ({"domains": ["lore"]}, "Invalid domain: lore"),
        ({"benchmark": "AIR-Bench_24.04", "splits": ["dev"]}, "Invalid split: dev"),
        ({"benchmark": "AIR-Bench_23"}, "the package has AIR-Bench_24.05"),
        ({"task_types": ["long-doc"], "domains": ["wiki"]}, "has nothing with --task_types long-doc --domains wiki"),
    ):
        asked = config(**words)
        with pytest.raises(InputError, match=told):
            find_sets(str(asked.benchmark), asked)


def test_a_search_is_written_scored_and_resumed(
    config: Callable[..., EvalConfig], data: Path, tmp_path: Path, llama_folder: Path, examples: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    package = pytest.importorskip("air_benchmark")
    dev, test = evaluate_air_bench(config())
    assert (dev.split, dev.queries, test.split, test.queries, test.score) == ("dev", 3, "test", 1, None)
    root = tmp_path / "out/search_results"
    assert dev.file == root / f"{llama_folder.name}-zero-shot/NoReranker/qa/law/en_default_dev.json"
    stored = json.loads(dev.file.read_text(encoding="utf-8"))
    assert sorted(stored["search_results"]) == sorted(DEV)
    assert sorted(stored["search_results"]["q0"]) == sorted(CORPUS)
    # The same id in the other split has its own answer.
    other = json.loads(test.file.read_text(encoding="utf-8"))["search_results"]["q0"]
    assert other != stored["search_results"]["q0"]

    # The package reads our files, and scores them alike.
    monkeypatch.chdir(data)
    package.AIRBench.evaluate_dev(
        "AIR-Bench_24.05", str(root), output_method="json", output_path=str(tmp_path / "scores.json"), k_values=[10]
    )
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    theirs = scores[f"{llama_folder.name}-zero-shot"]["NoReranker"]["qa"]["law"]["en"]["default"]
    assert dev.score == pytest.approx(100 * theirs["ndcg_at_10"])
    assert 0 < theirs["ndcg_at_10"] < 1

    # And searches as it does by itself.
    bench = package.AIRBench("AIR-Bench_24.05", task_types=["qa"], domains=["law"], languages=["en"], splits=["dev"])
    bench.run(retriever(config(), LAW), output_dir=str(tmp_path / "theirs"))
    again = tmp_path / "theirs" / dev.file.relative_to(root)
    assert json.loads(again.read_text(encoding="utf-8")) == stored

    # What is done is not encoded again; what is missing is.
    monkeypatch.setattr(AirRetriever, "__call__", None)
    assert evaluate_air_bench(config()) == [dev, test]
    monkeypatch.undo()
    test.file.unlink()
    before = dev.file.stat().st_mtime_ns
    evaluate_air_bench(config())
    assert test.file.is_file()
    assert dev.file.stat().st_mtime_ns == before

    # Few-shot lies beside it; other settings under the same name are refused.
    capsys.readouterr()
    assert run(config(examples=str(examples), splits=["dev"])) == 0
    assert "| qa        | law" in capsys.readouterr().out
    assert (root / f"{llama_folder.name}-few-shot/NoReranker/qa/law/en_default_dev.json").is_file()
    with pytest.raises(InputError, match=r"is of other settings \(fingerprint\)"):
        evaluate_air_bench(config(max_length=90))
    assert evaluate_air_bench(config(max_length=90, fresh=True))[1].file == test.file


def test_long_documents_are_scored_by_recall_and_what_is_hidden_is_said(
    config: Callable[..., EvalConfig], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("air_benchmark")
    assert run(config(task_types=["long-doc"], domains=["book"], splits=["dev"])) == 0
    told = capsys.readouterr().out
    assert "recall_at_10 | 100.00" in told  # seven documents
    assert "submitted" not in told
    for file in (data / "AIR-Bench/qrels-qa_law_en-dev").iterdir():
        file.unlink()
    (data / "AIR-Bench/qrels-qa_law_en-dev").rmdir()
    assert run(config()) == 0
    told = capsys.readouterr().out
    assert told.count("ndcg_at_10 |     -") == 2
    assert "1 files of search results have to be submitted" in told
    assert "-zero-shot/NoReranker\n" in told
    assert told.endswith(f"results: {tmp_path / 'out'}\n")


def test_data_that_is_nowhere_is_named(config: Callable[..., EvalConfig], data: Path) -> None:
    pytest.importorskip("air_benchmark")
    with pytest.raises(InputError, match=r"qa_wiki_en_default: can't read AIR-Bench/qa_wiki_en .*--data_dir"):
        evaluate_air_bench(config(domains=["wiki"]))
