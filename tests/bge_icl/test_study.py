"""bge_icl/study*.py: cells, resuming, what is refused, the table and the plot."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_retrieval import make_sets, write_rows

from benchmarks.retrieval_metrics import evaluate
from benchmarks.retrieval_sets import load_set
from bge_icl import study_plot, study_report
from bge_icl.example_files import write_examples
from bge_icl.examples import Example
from bge_icl.face import FlagICLModel
from bge_icl.local_tasks import local_instruction
from bge_icl.make_examples import draw_examples, source_of
from bge_icl.prompts import PLAIN_TEMPLATE, TEMPLATE
from bge_icl.study import FILE, study
from bge_icl.study_cells import StudyModel, prompt_formats, weights_hash
from bge_icl.study_config import StudyConfig
from common.encoder import Encoder
from common.errors import InputError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def config(golden: Any, data_dir: Path, tmp_path: Path) -> Callable[..., StudyConfig]:
    def make(**values: Any) -> StudyConfig:
        given = {"output": tmp_path / "out", "model": [str(golden.model)], "data_dir": data_dir, "dtype": "float32"}
        return StudyConfig(**{**given, "device": "cpu", "sets": ["scifact"], "shots": [0, 1, 3], **values})

    return make


def test_a_cell_is_what_users_would_get(config: Callable[..., StudyConfig], golden: Any, data_dir: Path) -> None:
    (path,) = study(config(sets=["scifact", "wikiqa"]))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [(c["set"], c["shots"]) for c in document["cells"]] == [
        (s, n) for s in ("scifact", "wikiqa") for n in (0, 1, 3)
    ]
    for name in ("scifact", "wikiqa"):
        tested = load_set(name, data_dir)
        examples = draw_examples(source_of(name, data_dir), 3)
        flag = FlagICLModel(str(golden.model), devices="cpu", query_instruction_for_retrieval=local_instruction(name))
        for cell in (c for c in document["cells"] if c["set"] == name):
            flag.set_examples(examples[: cell["shots"]])
            vectors = (
                flag.encode_queries(list(tested.queries.values())),
                flag.encode_corpus(list(tested.corpus.values())),
            )
            want = evaluate(tested, *vectors)
            for metric, values in want.items():
                assert cell["scores"][metric] == pytest.approx(values.mean(), abs=1e-3)
            np.testing.assert_allclose(cell["per_query"]["ndcg@10"], want["ndcg@10"], atol=1e-2)
            assert cell["prefix_tokens"] == len(flag.tokenizer(flag.prefix, add_special_tokens=False)["input_ids"])
    scifact = [c for c in document["cells"] if c["set"] == "scifact"]
    assert len({c["prefix_sha256"] for c in scifact}) == len({c["tokens"] for c in scifact}) == 3


def test_the_corpus_is_encoded_once_and_cells_are_kept(
    config: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[int] = []
    encode_corpus = FlagICLModel.encode_corpus
    monkeypatch.setattr(
        FlagICLModel, "encode_corpus", lambda self, texts: calls.append(len(texts)) or encode_corpus(self, texts)
    )
    queries: list[int] = []
    encode_queries = FlagICLModel.encode_queries
    monkeypatch.setattr(
        FlagICLModel, "encode_queries", lambda self, texts: queries.append(len(texts)) or encode_queries(self, texts)
    )
    (path,) = study(config())
    assert (calls, queries) == ([12], [6, 6, 6])
    first = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert study(config(shots=[0, 1, 3, 5])) == [path]  # one more cell, the same corpus
    assert (calls, len(queries)) == ([12], 4)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[:3] == first
    assert cells[3]["shots"] == 5
    study(config(seeds=[0, 1], shots=[0, 1]))
    assert len(queries) == 5  # of the second seed only one example: none to draw for zero
    study(config(fresh=True, shots=[0]))
    assert len(json.loads(path.read_text(encoding="utf-8"))["cells"]) == 1


def test_a_part_of_a_run_is_gone_on_with(config: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    cell, done = StudyModel.cell, []

    def killed(self: StudyModel, *args: Any) -> dict[str, Any]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return cell(self, *args)

    monkeypatch.setattr(StudyModel, "cell", killed)
    with pytest.raises(KeyboardInterrupt):
        study(config())
    monkeypatch.setattr(StudyModel, "cell", cell)
    (path,) = study(config())
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [c["shots"] for c in document["cells"]] == [0, 1, 3]
    assert len(document["sessions"]) == 2


def test_plain_too(config: Callable[..., StudyConfig]) -> None:
    (path,) = study(config(plain_too=True, plain_queries=4))
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell["plain"]["queries"] == 4
        assert cell["plain"]["max_difference"] < 1e-5
        assert cell["tokens_run"] < cell["tokens"]


def test_what_is_fed_is_said(
    config: Callable[..., StudyConfig], caplog: pytest.LogCaptureFixture, data_dir: Path
) -> None:
    (example,) = draw_examples(source_of("scifact", data_dir), 1)
    with caplog.at_level(logging.INFO):
        study(config(shots=[0, 1]))
    zero, one = (m for m in caplog.messages if "first query with" in m)
    assert example.query not in zero
    assert example.query in one
    assert "claims on rain" in zero
    assert "claims on rain" in one


def test_other_settings_are_not_mixed(config: Callable[..., StudyConfig], tmp_path: Path) -> None:
    study(config(shots=[0]))
    for changed in ({"max_passage_tokens": 20}, {"limit_queries": 3}):
        with pytest.raises(InputError, match="is of another settings; give another --output, or --fresh"):
            study(config(shots=[0], **changed))


def test_examples_of_a_folder(config: Callable[..., StudyConfig], tmp_path: Path) -> None:
    own = [Example(f"question {i}", f"answer {i}") for i in range(4)]
    write_examples(tmp_path / "own" / "SciFact.json", own)
    (path,) = study(config(examples=str(tmp_path / "own"), seeds=[0, 1]))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [(c["shots"], c["seed"]) for c in cells] == [(0, 0), (1, 0), (1, 1), (3, 0), (3, 1)]
    assert len({c["examples_sha256"] for c in cells}) == 5
    with pytest.raises(InputError, match="SciFact has 4 examples; --shots asks for 5"):
        study(config(examples=str(tmp_path / "own"), shots=[5]))
    write_examples(tmp_path / "own" / "SciFact.json", [*own, Example("Claims on rain", "x")])
    with pytest.raises(InputError, match="SciFact, example 5 is a query of the test set"):
        study(config(examples=str(tmp_path / "own"), shots=[5]))


def test_what_training_shares_is_said(config: Callable[..., StudyConfig], tmp_path: Path) -> None:
    train = write_rows(
        tmp_path / "train" / "a.jsonl.gz", [{"query": "claims on rain", "pos": ["On rain All about rain and rain."]}]
    )
    (path,) = study(config(train=train.parent, shots=[0]))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["sets"]["scifact"]["overlap"]["pairs"] == 1
    text = study_report.text(study_report.Report.of([tmp_path / "out"]))
    assert "1 of 6 queries, 1 of 6 relevant passages, 1 of 12" in " ".join(text.split())


def test_two_models_one_table_and_plot(
    config: Callable[..., StudyConfig], golden: Any, llama_folder: Path, tmp_path: Path
) -> None:
    seeds = {"seeds": [0, 1, 2], "shots": [0, 1]}
    study(config(plain_too=True, label=["before"], **seeds))
    study(config(model=[str(llama_folder)], label=["after"], **seeds))
    report = study_report.Report.of([tmp_path / "out"])
    assert [(r.model, r.shots, len(r.seeds)) for r in report.rows] == [
        *(("before", 0, 1), ("before", 1, 3), ("after", 0, 1), ("after", 1, 3))
    ]
    cells = json.loads(next((tmp_path / "out").glob(f"before*/{FILE}")).read_text(encoding="utf-8"))["cells"]
    one = report.rows[1]
    scores = [c["scores"]["ndcg@10"] for c in cells if c["shots"] == 1]
    assert one.scores["ndcg@10"] == pytest.approx(np.mean(scores))
    assert one.spread == pytest.approx(np.std(scores, ddof=1))
    assert one.difference is not None
    assert one.difference[0] == pytest.approx(np.mean(scores) - report.rows[0].scores["ndcg@10"], abs=1e-2)
    assert one.difference[1] <= one.difference[0] <= one.difference[2]
    assert report.rows[0].difference is None
    study_report.write(report, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    assert [row["ndcg@10"] for row in table["rows"]] == [row.scores["ndcg@10"] for row in report.rows]
    for name in ("table.txt", "table.md", "table.csv"):
        assert "after" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    figure = study_plot.plot(report)
    quality, cost = figure.axes
    assert len(cost.lines) == 3  # two models, and one of them plain, too
    assert quality.lines[0].get_ydata().tolist() == [r.scores["ndcg@10"] for r in report.rows[:2]]
    study_plot.save(figure, tmp_path / "plot")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    assert "before" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_two_of_one_name_are_told_apart(
    config: Callable[..., StudyConfig], llama_folder: Path, golden: Any, tmp_path: Path
) -> None:
    study(config(model=[str(golden.model), str(llama_folder)], label=["one", "one"], shots=[0]))
    models = study_report.Report.of([tmp_path / "out"]).models
    assert len(models) == 2
    assert all(model.startswith("one ") for model in models)


def test_the_program_draws_anew_without_a_model(
    program: Callable[..., Any], golden: Any, data_dir: Path, tmp_path: Path
) -> None:
    words = ["--output", tmp_path / "out", "--data_dir", data_dir]
    more = ["--model", golden.model, "--dtype", "float32", "--device", "cpu", "--sets", "squad_nqg", "--shots", "0,1"]
    done = program("bge_icl/study.py", *words, *more)
    assert done.code == 0, done.err
    assert "nDCG@10" in done.out
    (tmp_path / "out" / "study.png").unlink()
    assert program("bge_icl/study.py", "--output", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "study.png").is_file()
    empty = program("bge_icl/study.py", "--output", tmp_path / "empty")
    assert (empty.code, "no results of a few-shot study there; give --model" in empty.err) == (2, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sets": ["msmarco"]}, "--sets msmarco: known are scifact"),
        ({"shots": [-1]}, "none negative"),
        ({"shots": []}, "at least one of each"),
        ({"limit_queries": 0}, "--limit_queries 0"),
        ({"model": ["a", "b"], "adapter": ["c"]}, "--adapter: give one --model"),
        ({"model": ["a", "b"], "label": ["c"]}, "--label: 1 for 2 models"),
    ],
)
def test_wrong_use(config: Callable[..., StudyConfig], values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**values)


def test_prompts_of_trained_models(golden: Any) -> None:
    """A model trained without special tokens is asked as it was trained."""
    assert prompt_formats(TEMPLATE, "m") == {}
    flag = FlagICLModel(
        str(golden.model),
        devices="cpu",
        query_instruction_for_retrieval="Find it.",
        examples_for_task=[{"query": "a", "response": "b"}],
        **prompt_formats(PLAIN_TEMPLATE, "m"),
    )
    asked = flag.prefix + flag.get_detailed_instruct(flag.query_instruction_format, "Find it.", "c") + flag.suffix
    assert asked == "Instruct: Find it.\nQuery: a\nResponse: b\n\nInstruct: Find it.\nQuery: c\nResponse:"
    with pytest.raises(InputError, match="neither of BGE-ICL's two"):
        prompt_formats("{text}", "m")


def test_other_weights_have_another_hash(make_encoder: Callable[..., Encoder]) -> None:
    import torch

    first, second = make_encoder().backbone.model, make_encoder().backbone.model
    assert weights_hash(first) == weights_hash(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0] += 1e-3
    assert weights_hash(first) != weights_hash(second)


@pytest.mark.weights
def test_zero_and_one_example_on_real_data(weights: tuple[str, str], shared_data: Path, tmp_path: Path) -> None:
    """smollm2-135m, untrained, ranks WikiQA's candidates better than chance."""
    values: dict[str, Any] = {"output": tmp_path, "model": [weights[0]], "data_dir": shared_data, "shots": [0, 1]}
    (path,) = study(StudyConfig(**values, sets=["wikiqa"], limit_queries=12, device="cpu"))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tested = load_set("wikiqa", shared_data).limited(12)
    random = np.random.default_rng(0).normal(size=(12 + len(tested.corpus), 64)).astype(np.float32)
    chance = evaluate(tested, random[:12], random[12:])["ndcg@10"].mean()
    assert chance > 10
    assert all(cell["scores"]["ndcg@10"] > 20 for cell in cells)
    assert cells[0]["scores"] != cells[1]["scores"]
