"""bge_icl/eval.py: instructions and examples reach the model, on the right side, and never silently do not."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.results import predictions, read_folder
from bge_icl.eval import EvalConfig, IclPrompts, evaluate, read_prompts
from bge_icl.task_instructions import AIR_BENCH, task_instructions
from common.errors import InputError

STS = "Retrieve semantically similar text."
CLAIM = "Given a scientific claim, retrieve documents that support or refute the claim."
EXAMPLES = [
    {"query": "A cat is asleep.", "response": "The cat sleeps."},
    {"query": "It rains.", "response": "Rain is falling."},
]
PREFIX = "".join(f"<instruct>{STS}\n<query>{e['query']}\n<response>{e['response']}\n\n" for e in EXAMPLES)
PAIRS = [("Two men play chess.", "Men are playing chess.", 4.5), ("Two men play chess.", "Snow fell.", 0.2),
         ("The train left.", "The train departed.", 4.8), ("The train left.", "Bread is warm.", 0.1)]  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_rows(folder / "STS12/test.jsonl", [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in PAIRS])
    documents = [{"id": str(i), "title": "", "text": b} for i, (_, b, _) in enumerate(PAIRS)]
    write_rows(folder / "scifact/corpus.jsonl", documents)
    write_rows(folder / "scifact/queries.test.jsonl", [{"id": "q", "text": "Chess is played."}])
    write_rows(folder / "scifact/qrels.test.jsonl", [{"qid": "q", "did": "0", "rel": 1}])
    labelled = [{"text": f"{text} {i}", "label": text} for text in ("Snow.", "Bread.") for i in range(9)]
    write_rows(folder / "banking77/train.jsonl.gz", labelled)
    write_rows(folder / "banking77/test.jsonl.gz", labelled[::4])
    return folder


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for task in ("STS12", "SciFact", "Banking77Classification"):
        file = tmp_path / "examples/MTEB" / f"{task}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(EXAMPLES), encoding="utf-8")
    return tmp_path / "examples"


@pytest.fixture
def config(data: Path, tmp_path: Path, llama_folder: Path) -> Callable[..., EvalConfig]:
    def make(**changes: Any) -> EvalConfig:
        settings = {"model_name_or_path": str(llama_folder), "dtype": "float32", "device": "cpu", "tasks": ["STS12"],
                    "max_length": 100, "data_dir": data, "output": tmp_path / "out"}  # fmt: skip
        return EvalConfig(**{**settings, **changes})

    return make


def test_zero_shot_reads_both_texts_of_a_pair_as_queries(config: Callable[..., EvalConfig]) -> None:
    found, _ = evaluate(config())
    first = found["STS12"].data["first"]["text"]
    assert first["text"].endswith(f"<instruct>{STS}\n<query>Two men play chess.\n<response><|end|>")
    assert "examples_tokens" not in first
    assert found["STS12"].data["examples_sha256"] is None


def test_few_shot_puts_the_examples_before_every_query_and_keeps_the_proof(
    config: Callable[..., EvalConfig], examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found, _ = evaluate(config(examples=str(examples)))
    first = found["STS12"].data["first"]["text"]
    assert f"{PREFIX}<instruct>{STS}\n<query>Two men play chess.\n<response>" in first["text"]
    assert first["examples_tokens"] > 50
    assert first["text"] in caplog.text
    stored = json.loads(found["STS12"].path.read_text(encoding="utf-8"))
    assert stored["data"]["first"]["text"] == first
    assert len(found["STS12"].data["examples_sha256"]) == 64


def test_few_shot_scores_are_those_of_flagiclmodel(
    config: Callable[..., EvalConfig], examples: Path, llama_folder: Path, tmp_path: Path
) -> None:
    from bge_icl import FlagICLModel

    evaluate(config(examples=str(examples)))
    model = FlagICLModel(
        str(llama_folder), query_instruction_for_retrieval=STS, examples_for_task=EXAMPLES, use_fp16=False,
        query_max_length=100, devices="cpu",
    )  # fmt: skip
    a, b = (model.encode_queries([pair[side] for pair in PAIRS]) for side in (0, 1))
    cosines, _ = predictions(tmp_path / "out", "STS12")
    np.testing.assert_allclose(cosines, (np.asarray(a) * np.asarray(b)).sum(axis=1), atol=1e-5)
    model.set_examples(None)
    bare = np.asarray(model.encode_queries([pair[0] for pair in PAIRS]))
    assert np.abs(bare - np.asarray(a)).max() > 1e-3


def test_documents_of_retrieval_have_neither_instruction_nor_examples(
    config: Callable[..., EvalConfig], examples: Path
) -> None:
    found, _ = evaluate(config(tasks=["SciFact"], examples=str(examples), n_examples=1))
    first = found["SciFact"].data["first"]
    assert first["document"]["text"].removeprefix("<|begin|>") == "Men are playing chess.<|end|>"
    assert CLAIM in first["query"]["text"]
    assert "A cat is asleep." in first["query"]["text"]
    assert "examples_tokens" not in first["document"]


def test_classification_vectors_are_not_normalised(config: Callable[..., EvalConfig], data: Path) -> None:
    found, _ = evaluate(config(tasks=["Banking77Classification", "STS12"]))
    assert found["Banking77Classification"].data["normalized"] is False
    assert found["STS12"].data["normalized"] is True


def test_a_task_without_examples_stops_before_a_model_is_loaded(
    config: Callable[..., EvalConfig], examples: Path
) -> None:
    (examples / "MTEB/SciFact.json").unlink()
    wanted = config(tasks=["STS12", "SciFact"], examples=str(examples), model_name_or_path="no/such-model")
    with pytest.raises(InputError, match=r"examples: .* has no SciFact\.json"):
        evaluate(wanted)


def test_an_empty_prefix_is_an_error_not_zero_shot(config: Callable[..., EvalConfig]) -> None:
    from benchmarks.mteb_program import plan_tasks

    planned, _ = plan_tasks(config())
    prompts = IclPrompts(read_prompts(config(), planned).base, {}, "folder")
    with pytest.raises(InputError, match="STS12: --examples folder gives none; it would be zero-shot"):
        prompts.of(planned[0].task.metadata)


def test_the_number_of_examples_is_a_setting_of_the_result(config: Callable[..., EvalConfig], examples: Path) -> None:
    one = config(examples=str(examples), n_examples=1)
    found, _ = evaluate(one)
    assert "It rains." not in found["STS12"].data["first"]["text"]["text"]
    with pytest.raises(InputError, match=r"result of other settings \(examples_sha256\)"):
        evaluate(config(examples=str(examples)))
    with pytest.raises(InputError, match="holds 2 examples, 3 were asked for"):
        evaluate(config(examples=str(examples), n_examples=3))


def test_an_example_that_is_tested_is_said_and_if_made_here_refused(
    config: Callable[..., EvalConfig], examples: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaked = [{"query": "Two men play chess.", "response": "x"}]
    (examples / "MTEB/STS12.json").write_text(json.dumps(leaked), encoding="utf-8")
    evaluate(config(examples=str(examples)))
    assert "STS12: 1 of its examples are texts of its test split" in caplog.text
    monkeypatch.setattr("bge_icl.eval._made", lambda config, planned: examples)
    with pytest.raises(InputError, match="1 of its examples are texts of its test split"):
        evaluate(config(examples="auto", fresh=True))


def test_auto_makes_examples_from_the_training_split(
    config: Callable[..., EvalConfig], tmp_path: Path, weights: tuple[str, str]
) -> None:
    found, _ = evaluate(config(tasks=["Banking77Classification"], examples="auto", n_examples=2))
    made = json.loads((tmp_path / "out/examples/2/Banking77Classification.json").read_text(encoding="utf-8"))
    assert sorted(example["response"] for example in made) == ["Bread.", "Snow."]
    assert list(read_folder(tmp_path / "out")) == ["Banking77Classification"]
    assert made[0]["query"] in found["Banking77Classification"].data["first"]["text"]["text"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"n_examples": 0}, "--n_examples 0: must be at least 1"),
        ({"n_examples": 2}, "--n_examples: of which"),
        ({"tasks": []}, "missing: --tasks"),
    ],
)
def test_wrong_use_is_told(words: dict[str, Any], told: str, config: Callable[..., EvalConfig]) -> None:
    with pytest.raises(InputError, match=told):
        config(**words)


def test_the_program_dry_runs_the_published_command_without_its_examples(program: Callable[..., Any]) -> None:
    done = program(
        "bge_icl/eval.py", "--model", "BAAI/bge-en-icl", "--benchmark", "MTEB(eng, v1)", "--examples", "no/folder",
        "--dtype", "float16", "--dry_run",
    )  # fmt: skip
    assert done.code == 0
    assert "examples: no/folder" in done.out


def test_the_program_shows_the_first_query_as_it_is_read(
    program: Callable[..., Any], data: Path, examples: Path, llama_folder: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for package in ("benchmarks", "bge_icl"):  # as in a process of its own
        monkeypatch.setattr(logging.getLogger(package), "level", logging.NOTSET)
        logging.getLogger(package).manager._clear_cache()  # type: ignore[attr-defined]
    done = program(
        "bge_icl/eval.py", "--model", llama_folder, "--tasks", "STS12", "--data_dir", data, "--examples", examples,
        "--max_length", "100", "--device", "cpu", "--output", tmp_path / "shown",
    )  # fmt: skip
    assert done.code == 0
    assert f"{PREFIX}<instruct>{STS}\n<query>Two men play chess.\n<response>" in caplog.text


def test_there_is_an_instruction_for_all_56_tasks_and_air_bench() -> None:
    instructions = task_instructions()
    assert len(instructions) == 57
    assert instructions[AIR_BENCH].startswith("Given a question")
    assert all(text.endswith(".") for text in instructions.values())
