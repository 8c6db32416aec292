"""`python -m benchmarks speed --instructions N`: the counts and the equality are right; times no test judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import instruction_speed
from benchmarks.instruction_speed import GENERATED, measure, of_length, table
from benchmarks.speed import draw_texts, load_pairs, main
from common.errors import InputError


@pytest.fixture(autouse=True)
def _no_data_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)


def run(model: Path, **changes: Any) -> instruction_speed.InstructionReport:
    texts = draw_texts(load_pairs(None), 60, 0)
    settings = {"instructions": 3, "text_tokens": 40, "repeats": 2, "dtype": "float32", "device": "cpu"}
    return measure(str(model), "inbedder", texts, **{**settings, **changes})


def test_counts_and_equality(llama_folder: Path) -> None:
    report = run(llama_folder)
    assert report.equal
    assert report.difference <= 1e-5
    assert report.apart_because is None
    assert set(report.seconds) == {"trunk", "one", "apart", "shared", "generate"}
    assert all(len(times) == 2 for times in report.seconds.values())
    # The text stands once in place of three times; each question and the prompt around it is run as ever.
    saved = report.tokens_apart - report.tokens_shared
    assert saved >= 2 * report.texts * (report.text_tokens - 2)
    assert 1 < report.bound < 3
    assert f"{report.bound:.2f}" in table(report)


def test_what_cannot_be_shared_is_said(bert_folder: Path) -> None:
    report = run(bert_folder)
    assert report.apart_because
    assert report.bound == 1
    assert "generate" not in report.seconds
    assert "nothing was shared" in table(report)


def test_a_difference_fails_the_comparison(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = instruction_speed.encode_many
    monkeypatch.setattr(instruction_speed, "encode_many", lambda *a, **o: real(*a, **o)[:, ::-1])
    words = ["--instructions", "2", "--text_tokens", "30", "--texts", "20", "--repeats", "1", "--dtype", "float32"]
    file = tmp_path / "speed.json"
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(llama_folder), *words, "--output", str(file)])
    assert stopped.value.code == 1
    assert "moves fp32 vectors" in caplog.text
    written = json.loads(file.read_text("utf-8"))
    assert written["kind"] == "instruction-speed"
    assert written["reports"][0]["bound"] > 1
    assert len(written["reports"][0]["seconds"]["one"]) == 1


def test_the_bare_trunk_and_generate_run_the_same_prompts(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM, LlamaModel

    seen: dict[str, list[tuple[int, ...]]] = {"trunk": [], "generate": []}
    forward, generate = LlamaModel.forward, LlamaForCausalLM.generate

    def spy_forward(self: Any, input_ids: Any = None, **options: Any) -> Any:
        seen["trunk"].append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **options)

    def spy_generate(self: Any, **options: Any) -> Any:
        made = generate(self, **options)
        seen["generate"].append((*options["input_ids"].shape, made.shape[1] - options["input_ids"].shape[1]))
        return made

    monkeypatch.setattr(LlamaModel, "forward", spy_forward)
    monkeypatch.setattr(LlamaForCausalLM, "generate", spy_generate)
    run(llama_folder, repeats=1)
    assert seen["generate"]
    assert {new for *_, new in seen["generate"]} == {GENERATED}
    assert {tuple(shape) for *shape, _ in seen["generate"]} <= set(seen["trunk"])


def test_texts_have_the_length_asked_for(llama_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    texts = of_length(tokenizer, draw_texts(load_pairs(None), 30, 0), 25)
    lengths = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    assert len(texts) > 3
    assert all(23 <= n <= 27 for n in lengths)
    with pytest.raises(InputError, match="--text_tokens 100000"):
        of_length(tokenizer, ["short"], 100_000)


@pytest.mark.parametrize(
    ("method", "instructions", "message"),
    [("angle", 2, "no place for an instruction"), ("inbedder", 9, "--instructions 9")],
)
def test_what_cannot_be_measured(llama_folder: Path, method: str, instructions: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(str(llama_folder), method, ["a b c"] * 9, instructions=instructions, text_tokens=4, repeats=1)
