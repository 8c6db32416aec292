"""`python -m benchmarks speed`: what it measures is right; how fast this machine is, no test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_sts import write_sts

from benchmarks import matmul, speed
from benchmarks.speed import SpeedConfig, draw_texts, load_pairs, main, measure, table
from common import forward
from common.encoder import Encoder
from common.errors import InputError
from common.io import environment


@pytest.fixture(autouse=True)
def _no_data_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)
    monkeypatch.setattr(matmul, "LIMIT_SECONDS", 0.01)


def small(model: Path, **changes: Any) -> SpeedConfig:
    return SpeedConfig(**{"model": [str(model)], "texts": 40, "repeats": 3, "limit": 30, **changes})


@pytest.fixture
def bf16_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with native bf16, whatever this one has."""
    monkeypatch.setattr("common.backbone.has_native_bf16", lambda device: True)


@pytest.mark.usefixtures("bf16_is_native")
def test_an_llm_is_measured_in_fp32_and_in_its_own_precision(llama_folder: Path) -> None:
    report = measure(str(llama_folder), small(llama_folder), load_pairs(None))
    theirs, plain, fast = report.contenders
    assert [(c.name, c.dtype) for c in report.contenders] == [
        ("sentence-transformers", "float32"),
        ("ours", "float32"),
        ("ours", "bfloat16"),
    ]
    assert (report.method, report.pooling) == ("angle", "last")
    assert "in one word" in report.template
    assert theirs.difference == 0
    assert 0 < plain.difference < 1e-5 < fast.difference < 0.1
    assert report.equal
    assert theirs.spearman is None
    assert report.drift == pytest.approx(fast.spearman - plain.spearman)
    assert abs(report.drift) < 5
    for c in report.contenders:
        assert len(c.seconds) == 3
        assert c.tokens_per_second == pytest.approx(report.tokens / np.median(c.seconds))
        assert c.gflops == pytest.approx(2 * report.parameters * c.tokens_per_second / 1e9)
        assert c.limit_share == pytest.approx(c.gflops / report.limits[c.dtype])
        assert c.ratios[0] <= c.ratio <= c.ratios[1]
    assert theirs.ratio == 1
    assert plain.ratio == pytest.approx(np.median(np.array(theirs.seconds) / plain.seconds))


def test_an_encoder_has_one_precision(bert_folder: Path) -> None:
    report = measure(str(bert_folder), small(bert_folder), load_pairs(None))
    assert [c.dtype for c in report.contenders] == ["float32", "float32"]
    assert report.equal
    assert report.drift is None


def test_vectors_that_differ_fail_the_comparison(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = speed.plain_sentence_transformer

    def with_other_weights(encoder: Encoder) -> Any:
        model = real(encoder)
        with torch.no_grad():
            next(model.parameters()).mul_(1.01)
        return model

    monkeypatch.setattr(speed, "plain_sentence_transformer", with_other_weights)
    with pytest.raises(SystemExit) as end:
        main(["--model", str(bert_folder), "--texts", "20", "--repeats", "1", "--limit", "20"])
    assert end.value.code == 1
    assert "differ" in caplog.text


def test_the_table_names_the_machine_the_data_and_the_versions(bert_folder: Path) -> None:
    facts = environment()
    text = table(measure(str(bert_folder), small(bert_folder), load_pairs(None)), facts)
    for word in (
        *("40 texts", "no benchmark", "30 pairs", "GFLOP/s"),
        str(facts["cpu"]["model"]),
        f"{facts['cpu']['threads']} threads",
        facts["libraries"]["torch"],
        facts["libraries"]["sentence-transformers"],
    ):
        assert word in text, word


def test_the_numbers_are_written_in_full(bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(bert_folder), "--texts", "20", "--repeats", "2", "--limit", "20"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--output", str(tmp_path / "out" / "speed.json")])
    assert end.value.code == 0
    payload = json.loads((tmp_path / "out" / "speed.json").read_text())
    (report,) = payload["reports"]
    assert report["equal"] is True
    assert report["drift"] is None
    assert [len(c["seconds"]) for c in report["contenders"]] == [2, 2]
    assert payload["kind"] == "speed"
    assert len(payload["data"]["sha256"]) == 64
    assert payload["environment"]["libraries"]["torch"]
    assert "times ST" in capsys.readouterr().out


def test_threads_are_set_for_the_run_and_given_back(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    real: Callable[..., Any] = speed.in_turns

    def spy(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return real(*arguments, **options)

    monkeypatch.setattr(speed, "in_turns", spy)
    words = ["--texts", "8", "--repeats", "1", "--limit", "8", "--threads", str(before + 1)]
    with pytest.raises(SystemExit):
        main(["--model", str(bert_folder), *words])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    assert f"{before + 1} threads" in capsys.readouterr().out


def test_texts_are_distinct_and_drawn_by_seed(caplog: pytest.LogCaptureFixture) -> None:
    pairs = load_pairs(None)
    texts = draw_texts(pairs, 600, 0)
    assert len(set(texts)) == len(texts) == 600
    assert draw_texts(pairs, 50, 0) == texts[:50]
    assert draw_texts(pairs, 50, 1) != texts[:50]
    assert not caplog.records
    assert len(draw_texts(pairs, 1000, 0)) == 600
    assert "--texts 1000" in caplog.text


def test_the_data_is_what_the_user_names_else_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_pairs(None).protocol == "shipped"
    folder = write_sts(tmp_path / "data")
    assert load_pairs(folder).name == "STSBenchmark"
    monkeypatch.setenv("EMBED_DATA", str(folder))
    assert load_pairs(None).name == "STSBenchmark"
    with pytest.raises(InputError, match=r"STSBenchmark.*--data_dir"):
        load_pairs(write_sts(tmp_path / "other", ["STS12"]))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--texts", "0"], "--texts"),
        (["--repeats", "0"], "--repeats"),
        (["--threads", "0"], "--threads"),
        (["--method", "angel"], "angel"),
        (["--model", "minlm"], "minlm"),
        (["--data_dir", "nowhere"], "--data_dir"),
        (["--dtype", "float32"], "--dtype"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_use_is_exit_code_2(words: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert name in capsys.readouterr().err.strip().splitlines()[-1]


# -- benchmarks.matmul


def test_embedding_tables_do_not_count_as_work(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama")
    trunk = encoder.backbone.model
    table = trunk.get_input_embeddings().weight.numel()
    assert matmul.working_parameters(encoder.embedder) == sum(p.numel() for p in trunk.parameters()) - table
    assert matmul.limit_shape(encoder.embedder) in ((1024, 32, 48), (1024, 48, 32))
    assert matmul.limit_shape(torch.nn.LayerNorm(4)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_limit_is_that_of_a_bare_product(dtype: torch.dtype) -> None:
    found = matmul.matmul_limit((64, 32, 48), dtype, torch.device("cpu"))
    assert 0.01 < found < 100_000


# -- common.forward: the size of a batch


def test_a_batch_grows_with_the_threads() -> None:
    before = torch.get_num_threads()
    try:
        sizes = {}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            sizes[threads] = forward.default_tokens(torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    assert sizes == {1: 512, 2: 1024}
    assert forward.default_tokens(torch.device("cuda")) > 10_000


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_default_batch_gives_the_vectors_of_single_texts(kind: str, make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(kind, pooling="mean")
    texts = draw_texts(load_pairs(None), 90, 0)
    together = encoder.encode(texts, normalize_embeddings=True)
    assert encoder.usage.padded_tokens > 512, "one batch alone would show nothing"
    alone = np.stack([encoder.encode(text, normalize_embeddings=True) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
