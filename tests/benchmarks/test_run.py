"""`python -m benchmarks run` with real (tiny) models: what it writes, when it resumes, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from small_sts import PER_SUBSET, write_sts

import benchmarks.run as run_module
from benchmarks import results
from benchmarks.run import RunConfig, evaluate, main, summary
from common.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TASK = "ShippedPairs"
LIMIT = 40


@pytest.fixture
def config(bert_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Makes the configuration of a short run on shipped pairs; keyword arguments replace its fields."""

    def make(**changes: Any) -> RunConfig:
        facts: dict[str, Any] = {"model": str(bert_folder), "suite": "sts-shipped", "limit": LIMIT}
        return RunConfig(**(facts | {"output": tmp_path / "out"} | changes))

    return make


def stored(folder: Path, task: str = TASK) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(folder / f"{task}.npz") as arrays:
        return json.loads((folder / f"{task}.json").read_text()), dict(arrays)


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, whatever would be encoded is an error."""

    def forbid() -> None:
        def refuse(*arguments: Any, **options: Any) -> None:
            raise AssertionError("something was encoded")

        monkeypatch.setattr("common.encoder.Encoder.encode", refuse)

    return forbid


# -- what a result holds


def test_a_result_holds_the_score_in_full_and_all_that_decided_it(config: Callable[..., RunConfig]) -> None:
    made = config(seed=5)
    found = evaluate(made)[TASK]
    payload, arrays = stored(made.output)
    gold, prediction = arrays["gold"], arrays["prediction"]
    score = spearmanr(prediction, gold).statistic * 100
    assert payload["score"] == pytest.approx(score, abs=1e-9)
    assert payload["score"] != round(payload["score"], 2), "scores are stored in full precision"
    assert payload["score"] == payload["scores"]["spearman"] == found.score
    assert (payload["n"], payload["limit"], payload["texts"]) == (LIMIT, LIMIT, 2 * LIMIT)
    assert len(payload["index"]) == len(gold) == len(prediction) == LIMIT
    assert payload["suite"] == "sts-shipped"
    assert payload["protocol"] == "shipped"
    assert payload["metric"] == "spearman"
    assert payload["seed"] == 5
    encoder = payload["encoder"]
    assert (encoder["template"], encoder["pooling"], encoder["dtype"]) == ("{text}", "mean", "float32")
    assert {"attention", "model", "revision", "adapter", "max_length", "fingerprint"} <= set(encoder)
    assert len(payload["data"]["sha256"]) == 64
    assert payload["data"]["source"] == "common/shipped/pairs.jsonl"
    assert {"torch", "transformers"} <= set(payload["environment"]["libraries"])
    assert payload["tokens"] > 2 * LIMIT
    assert payload["tokens_per_second"] == pytest.approx(payload["tokens"] / payload["seconds"])
    assert payload["peak_memory_mb"] > 50
    assert payload["command"]
    assert payload["created"].endswith("+00:00")
    assert "alignment" in payload["scores"]


def test_predictions_are_the_cosines_of_the_encoder_in_the_order_of_the_data(
    config: Callable[..., RunConfig],
) -> None:
    from benchmarks import suites
    from common.registry import load

    made = config()
    evaluate(made)
    task = suites.load(suites.get_suite("sts-shipped"), TASK, None, limit=LIMIT, seed=0, compat=frozenset())
    encoder = load("sentence-transformer", made.model)
    first, second = (encoder.encode(t, normalize_embeddings=True) for t in (task.text1, task.text2))
    _, arrays = stored(made.output)
    np.testing.assert_allclose(arrays["prediction"], (first * second).sum(1), atol=1e-6)
    np.testing.assert_array_equal(arrays["gold"], task.gold)


def test_a_whole_task_has_no_limit_and_no_index(config: Callable[..., RunConfig]) -> None:
    found = evaluate(config(limit=None))[TASK]
    assert (found.n, found.limit, found.index) == (300, None, None)


def test_the_summary_says_what_the_numbers_are(config: Callable[..., RunConfig]) -> None:
    text = summary(evaluate(config()))
    assert "not comparable" in text
    assert f"{LIMIT} pairs a task" in text
    assert "SHUFFLED" not in text


def test_options_reach_the_encoder(config: Callable[..., RunConfig], llama_folder: Path) -> None:
    changes = {"template": "Say: {text}!", "pooling": "mean", "max_length": 20, "method": "angle"}
    made = config(model=str(llama_folder), dtype="float32", options={"normalize": True}, **changes)
    encoder = evaluate(made)[TASK].encoder
    assert {name: encoder[name] for name in changes} == changes
    assert encoder["normalize"] is True


# -- resuming


def test_a_second_run_encodes_nothing(config: Callable[..., RunConfig], no_encoding: Callable[[], None]) -> None:
    first = evaluate(config())
    before = (config().output / f"{TASK}.json").read_bytes()
    no_encoding()
    assert evaluate(config()) == first
    assert (config().output / f"{TASK}.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"limit": LIMIT + 1},
        {"seed": 1},
        {"template": "Say: {text}"},
        {"pooling": "cls"},
        {"max_length": 12},
        {"dtype": "bfloat16"},
        {"text_edits": "one-word-prompt"},
        {"shuffle_gold": True},
        {"compat": ["angle:max-pooling"]},
    ],
    ids=str,
)
def test_other_settings_in_the_same_folder_are_refused(
    change: dict[str, Any], config: Callable[..., RunConfig], no_encoding: Callable[[], None]
) -> None:
    evaluate(config())
    before = (config().output / f"{TASK}.json").read_bytes()
    no_encoding()
    with pytest.raises(InputError, match=rf"{TASK}\.json.*--output.*--fresh"):
        evaluate(config(**change))
    assert (config().output / f"{TASK}.json").read_bytes() == before


def test_another_model_in_the_same_folder_is_refused(config: Callable[..., RunConfig], llama_folder: Path) -> None:
    evaluate(config())
    with pytest.raises(InputError, match="--fresh"):
        evaluate(config(model=str(llama_folder)))


def test_another_shuffle_in_the_same_folder_is_refused(config: Callable[..., RunConfig]) -> None:
    evaluate(config(shuffle_gold=True, limit=None))
    with pytest.raises(InputError, match="--fresh"):
        evaluate(config(shuffle_gold=True, limit=None, seed=1))


def test_speed_settings_do_not_make_another_result(
    config: Callable[..., RunConfig], no_encoding: Callable[[], None]
) -> None:
    first = evaluate(config())
    no_encoding()
    assert evaluate(config(batch_size=3, max_batch_tokens=100)) == first


def test_fresh_runs_again_and_replaces(config: Callable[..., RunConfig]) -> None:
    evaluate(config())
    found = evaluate(config(fresh=True, limit=25))[TASK]
    payload, arrays = stored(config().output)
    assert found.n == payload["n"] == len(arrays["gold"]) == 25


def test_settings_that_differ_get_folders_that_differ(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [next(iter(evaluate(config(output=None, pooling=p)).values())).path.parent for p in ("mean", "cls")]
    assert folders[0] != folders[1]
    assert all(folder.parts[:2] == ("results", "sts-shipped") for folder in folders)
    assert all("sentence-transformer--tiny-bert" in folder.name for folder in folders)


KILLED = """
import os, signal, sys
from benchmarks import results, run
write = results.write_result
def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
results.write_result = write_and_die
run.main(sys.argv[1:])
"""


def test_a_run_killed_between_two_tasks_goes_on_where_it_was(
    tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_sts(tmp_path / "data")
    words = ["--suite", "sts", "--tasks", "STS12", "STSBenchmark", "--model", str(bert_folder)]
    words += ["--data_dir", str(data), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["STS12.json", "STS12.npz"]
    first = (tmp_path / "out" / "STS12.json").read_bytes()

    encoded: list[str] = []
    real = run_module.evaluate_pairs

    def counted(encode: Any, task: Any, **options: Any) -> Any:
        encoded.append(task.name)
        return real(encode, task, **options)

    monkeypatch.setattr(run_module, "evaluate_pairs", counted)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert encoded == ["STSBenchmark"]
    assert (tmp_path / "out" / "STS12.json").read_bytes() == first
    assert set(results.read_folder(tmp_path / "out")) == {"STS12", "STSBenchmark"}


# -- controls and quirks


def test_shuffled_gold_changes_the_order_of_the_gold_scores_and_nothing_else(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    straight = evaluate(config(limit=None))[TASK]
    shuffled = evaluate(config(limit=None, shuffle_gold=True, output=tmp_path / "shuffled"))[TASK]
    _, plain = stored(config().output)
    payload, mixed = stored(tmp_path / "shuffled")
    np.testing.assert_array_equal(plain["prediction"], mixed["prediction"])
    assert not np.array_equal(plain["gold"], mixed["gold"])
    np.testing.assert_array_equal(np.sort(plain["gold"]), np.sort(mixed["gold"]))
    assert payload["score"] == payload["scores"]["spearman"] != straight.score
    assert payload["score"] == pytest.approx(spearmanr(mixed["prediction"], mixed["gold"]).statistic * 100)
    assert payload["data"]["shuffled_gold"] is True
    assert "GOLD SHUFFLED" in summary({TASK: shuffled})


def test_text_edits_change_the_texts_and_the_record(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    evaluate(config())
    evaluate(config(text_edits="one-word-prompt", output=tmp_path / "edited"))
    plain, without = stored(config().output)
    edited, with_edits = stored(tmp_path / "edited")
    assert plain["data"]["text_edits"] is None
    assert edited["data"]["text_edits"] == "one-word-prompt"
    assert edited["data"]["sha256"] == plain["data"]["sha256"], "the data is the same; the edits come after"
    assert not np.allclose(without["prediction"], with_edits["prediction"])


def test_senteval_blanks_reach_the_model_and_the_record(tmp_path: Path, llama_folder: Path) -> None:
    data = write_sts(tmp_path / "data")

    def result(name: str, compat: list[str]) -> tuple[dict[str, Any], np.ndarray]:
        facts: dict[str, Any] = {"method": "angle", "model": str(llama_folder), "dtype": "float32"}
        folder = tmp_path / name
        evaluate(RunConfig(suite="sts", tasks=["STS12"], data_dir=data, output=folder, compat=compat, **facts))
        payload, arrays = stored(folder, "STS12")
        return payload, arrays["prediction"]

    plain, without = result("plain", [])
    blanks, padded = result("blanks", ["angle:senteval-blanks"])
    assert blanks["compat"] == ["angle:senteval-blanks"]
    assert "blank-padded" in blanks["data"]["source"]
    assert blanks["tokens"] > plain["tokens"]
    assert not np.allclose(without, padded)


# -- wrong use: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--suite", "sts-b"], ["--suite", "sts-b", "sts-mteb"]),
        (["--tasks", "STS21"], ["--tasks", "STS21"]),
        (["--method", "angel", "--suite", "sts-shipped"], ["angel", "angle"]),
        (["--model", "minlm", "--suite", "sts-shipped"], ["minlm", "minilm"]),
        (["--data_dir", "nowhere"], ["--data_dir", "nowhere"]),
        (["--compat", "angle:blanks"], ["--compat", "angle:senteval-blanks"]),
        (["--limit", "0"], ["--limit", "at least 1"]),
        (["--text_edits", "none-word"], ["--text_edits", "one-word-prompt"]),
        (["--suites", "sts"], ["--suites", "--suite"]),
        (["--device", "gpu9", "--suite", "sts-shipped"], ["gpu9"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str],
    names: list[str],
    tmp_path: Path,
    bert_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMBED_DATA", raising=False)
    if "--model" not in words:
        words = [*words, "--model", str(bert_folder)]
    if "--data_dir" not in words and "sts-shipped" not in words:
        words = [*words, "--data_dir", str(write_sts(tmp_path / "data"))]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == 1
    assert errors[0] == lines[-1]
    assert all(name in errors[0] for name in names), errors[0]
    assert not (tmp_path / "results").exists()


def test_a_missing_task_is_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    data = write_sts(tmp_path / "data", ["STS12"])
    with pytest.raises(InputError, match=r"STSBenchmark.*--data_dir"):
        evaluate(RunConfig(model="no/such-model", suite="sts", tasks=["STS12", "STSBenchmark"], data_dir=data))


def test_the_command_line_writes_and_prints(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--suite", "sts-mteb", "--tasks", "stsb", "--model", str(bert_folder)]
    words += ["--data_dir", str(write_sts(tmp_path / "data")), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    out = capsys.readouterr().out
    found = results.read_folder(tmp_path / "out")["STSBenchmark"]
    assert found.n == PER_SUBSET
    assert found.data["complete"] is False
    assert f"{found.score:.2f}" in out
    assert str(tmp_path / "out") in out


# -- calibration: published scores come back to the second decimal


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.shared
def test_minilm_gives_its_published_scores(weights: tuple[str, str], shared_data: Path, tmp_path: Path) -> None:
    expected = {
        "sts-mteb": {"STSBenchmark": 82.03, "SICK-R": 77.58},
        "sts": {"STSBenchmark": 82.03, "SICK-R": 77.15},
    }
    for suite, scores in expected.items():
        facts: dict[str, Any] = {"model": weights[1], "suite": suite, "tasks": list(scores)}
        found = evaluate(RunConfig(data_dir=shared_data, output=tmp_path / suite, **facts))
        assert {name: result.encoder["dtype"] for name, result in found.items()} == dict.fromkeys(scores, "float32")
        for name, score in scores.items():
            assert found[name].score == pytest.approx(score, abs=0.01), (suite, name)
            assert found[name].data["complete"]
    for suite in expected:
        facts = {"model": weights[1], "suite": suite, "tasks": ["STSBenchmark"], "shuffle_gold": True}
        control = evaluate(RunConfig(data_dir=shared_data, output=tmp_path / f"{suite}-shuffled", **facts))
        assert abs(control["STSBenchmark"].score) < 5
