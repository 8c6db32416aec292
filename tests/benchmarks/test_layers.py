"""`python -m benchmarks layers`: scores that other programs can confirm, resuming, and what is written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_sts import write_sts

from benchmarks import layer_plot, layer_report, layers
from benchmarks import run as run_module
from benchmarks.layer_curves import Report, Step, largest_step
from benchmarks.layers import LayersConfig, evaluate, main
from common.encoder import Encoder
from common.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
TASK = "ShippedPairs"
LIMIT = 30
FILES = {f"layers.{suffix}" for suffix in ("json", "csv", "md", "png", "svg")}
K_FILES = {f"bidirectional_from.{suffix}" for suffix in ("csv", "md", "png", "svg")}
MODEL_FLAGS = ("method", "model", "adapter", "template", "pooling", "compat", "options", "dtype")


@pytest.fixture
def config(llama_folder: Path, tmp_path: Path) -> Callable[..., LayersConfig]:
    """Makes the configuration of a short run on shipped pairs; keyword arguments replace its fields."""

    def make(**changes: Any) -> LayersConfig:
        facts: dict[str, Any] = {"method": "angle", "model": str(llama_folder), "dtype": "float32"}
        facts |= {"suite": "sts-shipped", "limit": LIMIT, "output": tmp_path / "out"}
        return LayersConfig(**(facts | changes))

    return make


@pytest.fixture
def ordinary(tmp_path: Path) -> Callable[..., float]:
    """The score of `python -m benchmarks run` with the same settings."""

    def score(config: LayersConfig, **changes: Any) -> float:
        names = ("suite", "limit", "seed", "text_edits", "shuffle_gold", "batch_size", *MODEL_FLAGS)
        facts = {name: getattr(config, name) for name in names} | changes
        found = run_module.evaluate(run_module.RunConfig(output=tmp_path / "run", fresh=True, **facts))
        return found[TASK].score

    return score


def scores_of(document: dict[str, Any], first: int | None, task: str = TASK) -> list[float]:
    (run,) = [run for run in document["runs"] if run["bidirectional_from"] == first]
    return run["tasks"][task]["spearman"]


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, whatever would be encoded is an error."""

    def forbid() -> None:
        def refuse(*arguments: Any, **options: Any) -> None:
            raise AssertionError("something was encoded")

        monkeypatch.setattr("common.encoder.Encoder.encode", refuse)

    return forbid


# ------------------------------ the scores


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pooling": "mean", "template": "Say: {text}!"},
        {"text_edits": "one-word-prompt"},
        {"shuffle_gold": True, "seed": 3},
        {"options": {"normalize": True}},
        {"dtype": "bfloat16"},
        {"batch_size": 7},
        {"final_norm": True},
        {"compat": ["angle:tail-truncation"], "options": {"max_length": 12}},
    ],
    ids=str,
)
def test_the_last_layers_score_is_that_of_an_ordinary_run(
    changes: dict[str, Any], config: Callable[..., LayersConfig], ordinary: Callable[..., float]
) -> None:
    made = config(**changes)
    document, _ = evaluate(made)
    assert scores_of(document, 3)[-1] == pytest.approx(ordinary(made), abs=1e-9)


def test_an_adapter_and_an_encoder_too(
    config: Callable[..., LayersConfig],
    ordinary: Callable[..., float],
    lora_folders: dict[str, Path],
    bert_folder: Path,
    tmp_path: Path,
) -> None:
    adapted = config(adapter=[str(lora_folders["headed"])])
    document, _ = evaluate(adapted)
    assert scores_of(document, 3)[-1] == pytest.approx(ordinary(adapted), abs=1e-9)
    assert document["encoder"]["adapter"] == [str(lora_folders["headed"])]
    bert = config(method="sentence-transformer", model=str(bert_folder), output=tmp_path / "bert")
    document, _ = evaluate(bert)
    assert (document["layers"], len(scores_of(document, None))) == (2, 3)
    assert scores_of(document, None)[-1] == pytest.approx(ordinary(bert), abs=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_with_the_final_norm_layer_n_scores_as_the_model_of_n_layers(
    count: int, config: Callable[..., LayersConfig], ordinary: Callable[..., float]
) -> None:
    made = config(final_norm=True)
    document, _ = evaluate(made)
    cut = ordinary(made, options={"num_hidden_layers": count})
    assert scores_of(document, 3)[count] == pytest.approx(cut, abs=1e-6)
    assert cut != ordinary(made)


def test_every_k_scores_as_a_model_that_is_bidirectional_from_k_on(
    config: Callable[..., LayersConfig], ordinary: Callable[..., float], llama_folder: Path, tmp_path: Path
) -> None:
    made = config(bidirectional_from=["all"], pooling="mean")
    document, _ = evaluate(made)
    assert [run["bidirectional_from"] for run in document["runs"]] == [3, 0, 1, 2]
    for k in (0, 1, 2, 3):
        saved = tmp_path / f"k{k}"
        shutil.copytree(llama_folder, saved)
        settings = json.loads((saved / "config.json").read_text())
        (saved / "config.json").write_text(json.dumps(settings | {"bidirectional_from": k}))
        assert scores_of(document, k)[-1] == pytest.approx(ordinary(made, model=str(saved)), abs=1e-9), k
    assert len({scores_of(document, k)[-1] for k in range(4)}) == 4
    # Below k all is causal.
    assert scores_of(document, 2)[:3] == scores_of(document, 3)[:3]
    assert scores_of(document, 1)[2] != scores_of(document, 3)[2]


def test_a_list_of_k_and_the_models_own_attention(
    config: Callable[..., LayersConfig], make_encoder: Callable[..., Encoder]
) -> None:
    from common.attention import get_attention, set_attention

    encoder = make_encoder("llama", pooling="mean")
    set_attention(encoder.backbone.model, {"bidirectional_from": 2})
    document, _ = evaluate(config(bidirectional_from=["3", "2", "0"]), encoder=encoder)
    assert [run["bidirectional_from"] for run in document["runs"]] == [2, 0, 3], "the own one comes first, and once"
    assert [run["attention"] for run in document["runs"]] == [str({"bidirectional_from": 2}), "bidirectional", "causal"]
    assert get_attention(encoder.backbone.model) == {"bidirectional_from": 2}
    assert len({run["fingerprint"] for run in document["runs"]}) == 3
    assert document["runs"][0]["fingerprint"] == encoder.info.fingerprint


def test_bellm_keeps_its_quirk_with_every_k(
    config: Callable[..., LayersConfig], ordinary: Callable[..., float], tmp_path: Path
) -> None:
    scores = {}
    for compat in ([], ["bellm:unmask-padding"]):
        made = config(method="bellm", compat=compat, bidirectional_from=["1"], output=tmp_path / str(len(compat)))
        encoder = made.load()
        before = encoder.encode(["rain", "a longer text beside it"])
        document, _ = evaluate(made, encoder=encoder)
        assert [run["bidirectional_from"] for run in document["runs"]] == [2, 1], "the last layer is BeLLM's own"
        scores[len(compat)] = [scores_of(document, k)[-1] for k in (1, 2)]
        assert scores[len(compat)][1] == pytest.approx(ordinary(made), abs=1e-9)
        assert scores[len(compat)][0] == pytest.approx(ordinary(made, options={"bidirectional_from": 1}), abs=1e-9)
        np.testing.assert_array_equal(encoder.encode(["rain", "a longer text beside it"]), before)
    assert all(a != b for a, b in zip(scores[0], scores[1])), "the quirk is at work"


def test_the_attention_comes_back_after_an_error(
    config: Callable[..., LayersConfig], make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.attention import get_attention

    encoder = make_encoder("llama")
    real = layers.score_layers

    def fail(layer_encoder: Any, *rest: Any) -> Any:
        if layer_encoder.encoder.info.attention != "causal":
            raise RuntimeError("out of luck")
        return real(layer_encoder, *rest)

    monkeypatch.setattr(layers, "score_layers", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate(config(bidirectional_from=["0"]), encoder=encoder)
    assert get_attention(encoder.backbone.model) == "causal"


def test_states_that_are_not_finite_name_task_and_layer(
    config: Callable[..., LayersConfig], make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder("llama", pooling="mean")
    norm = encoder.backbone.model.layers[0].post_attention_layernorm
    norm.register_forward_hook(lambda _, __, states: states * float("inf"))
    encoder.backbone.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0].nan_to_num(0, 0, 0), *args[1:]))
    with pytest.raises(InputError, match=rf"{TASK}, layer 1: .*--dtype float32"):
        evaluate(config(), encoder=encoder)


# ------------------------------ what layers.json holds, and resuming


def test_the_record_is_complete(config: Callable[..., LayersConfig]) -> None:
    made = config(bidirectional_from=["1"], seed=5)
    document, folder = evaluate(made)
    assert json.loads((folder / "layers.json").read_text()) == document
    record = document["runs"][0]["tasks"][TASK]
    assert all(len(record[metric]) == 4 for metric in ("spearman", "pearson"))
    assert record["spearman"] != record["pearson"]
    assert any(score != round(score, 3) for score in record["spearman"]), "full precision"
    assert record["constant"] == [0], "the last token of the prompt is that of every text"
    assert record["spearman"][0] == 0
    assert record["tokens"] > 2 * LIMIT
    assert record["tokens_per_second"] == pytest.approx(record["tokens"] / record["seconds"])
    assert record["peak_memory_mb"] > 50
    task = document["tasks"][TASK]
    assert (task["n"], task["limit"], len(task["index"]), len(task["sha256"])) == (LIMIT, LIMIT, LIMIT, 64)
    assert document["seed"] == 5
    encoder = document["encoder"]
    assert (encoder["pooling"], encoder["attention"], encoder["dtype"]) == ("last", "causal", "float32")
    (session,) = document["sessions"]
    assert {"torch", "transformers"} <= set(session["environment"]["libraries"])
    assert session["command"]
    assert record["session"] == document["runs"][1]["tasks"][TASK]["session"] == 0


def test_a_second_run_encodes_nothing_and_changes_nothing(
    config: Callable[..., LayersConfig], no_encoding: Callable[[], None]
) -> None:
    layers.run(config(bidirectional_from=["all"]))
    before = {file.name: file.read_bytes() for file in config().output.iterdir()}
    assert set(before) == FILES | K_FILES
    no_encoding()
    layers.run(config(bidirectional_from=["all"]))
    assert {file.name: file.read_bytes() for file in config().output.iterdir()} == before


def test_more_k_add_to_what_is_there(config: Callable[..., LayersConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = evaluate(config())
    scored: list[str] = []
    real = layers.score_layers

    def counted(layer_encoder: Any, *rest: Any) -> Any:
        scored.append(layer_encoder.encoder.info.attention)
        return real(layer_encoder, *rest)

    monkeypatch.setattr(layers, "score_layers", counted)
    second, _ = evaluate(config(bidirectional_from=["0", "3"]))
    assert scored == ["bidirectional"], "k = 3 is the causal model, which was there"
    assert second["runs"][0] == first["runs"][0]
    assert [session["created"] for session in second["sessions"]][:1] == [first["sessions"][0]["created"]]
    assert second["runs"][1]["tasks"][TASK]["session"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"limit": LIMIT + 1},
        {"seed": 1},
        {"pooling": "mean"},
        {"template": "Say: {text}"},
        {"dtype": "bfloat16"},
        {"text_edits": "one-word-prompt"},
        {"shuffle_gold": True},
        {"final_norm": True},
    ],
    ids=str,
)
def test_other_settings_in_the_same_folder_are_refused(
    change: dict[str, Any], config: Callable[..., LayersConfig], no_encoding: Callable[[], None]
) -> None:
    evaluate(config())
    before = (config().output / "layers.json").read_bytes()
    no_encoding()
    with pytest.raises(InputError, match=r"layers\.json.*--output.*--fresh"):
        evaluate(config(**change))
    assert (config().output / "layers.json").read_bytes() == before


def test_fresh_replaces(config: Callable[..., LayersConfig]) -> None:
    evaluate(config(bidirectional_from=["0"]))
    document, _ = evaluate(config(limit=25, fresh=True))
    assert len(document["runs"]) == 1
    assert document["tasks"][TASK]["n"] == 25


def test_a_folder_with_results_of_run_is_left_alone(
    config: Callable[..., LayersConfig], ordinary: Callable[..., float], tmp_path: Path
) -> None:
    ordinary(config())
    with pytest.raises(InputError, match=rf"{TASK}\.json.*--output"):
        evaluate(config(output=tmp_path / "run"))


def test_settings_that_differ_get_folders_that_differ(
    config: Callable[..., LayersConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes: list[dict[str, Any]] = [{}, {"pooling": "mean"}, {"final_norm": True}]
    folders = {evaluate(config(output=None, **change))[1] for change in changes}
    assert len(folders) == 3
    assert all(folder.parts[:3] == ("results", "layers", "sts-shipped") for folder in folders)


KILLED = """
import os, signal, sys
from benchmarks import layers
write, count = layers.write_json, [0]
def write_and_die(*arguments):
    write(*arguments)
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
layers.write_json = write_and_die
layers.main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = ["STS12", "STSBenchmark"]
    words = ["--suite", "sts", "--tasks", *tasks, "--method", "angle", "--model", str(llama_folder), "--dtype=float32"]
    words += ["--data_dir", str(write_sts(tmp_path / "data")), "--output", str(tmp_path / "out")]
    words += ["--bidirectional_from", "0", "1"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["layers.json"]
    partial = json.loads((tmp_path / "out" / "layers.json").read_text())
    assert [(run["attention"], list(run["tasks"])) for run in partial["runs"]] == [
        ("causal", tasks),
        ("bidirectional", tasks[:1]),
    ]
    scored: list[tuple[str, str]] = []
    real = layers.score_layers

    def counted(layer_encoder: Any, task: Any, *rest: Any) -> Any:
        scored.append((layer_encoder.encoder.info.attention, task.name))
        return real(layer_encoder, task, *rest)

    monkeypatch.setattr(layers, "score_layers", counted)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    mixed = str({"bidirectional_from": 1})
    assert scored == [("bidirectional", tasks[1]), (mixed, tasks[0]), (mixed, tasks[1])]
    document = json.loads((tmp_path / "out" / "layers.json").read_text())
    assert document["runs"][0] == partial["runs"][0]
    assert len(document["sessions"]) == 2
    assert document["summary"]["tasks"] == tasks


# ------------------------------ tables and plots


def made_up(own: list[float], by_k: dict[int, list[float]] | None = None, **changes: Any) -> Report:
    """The report of a document of two tasks, the second 10 points above the first."""
    count = len(own) - 1

    def run(first: int, scores: list[float]) -> dict[str, Any]:
        records = {
            "STS12": {"spearman": scores, "constant": [i for i, s in enumerate(scores) if s == 0]},
            "STS13": {"spearman": [s + 10 for s in scores], "constant": []},
        }
        name = {0: "bidirectional", count: "causal"}.get(first, f"from {first}")
        return {"attention": name, "bidirectional_from": first, "tasks": records}

    facts: dict[str, Any] = {
        **{"layers": count, "method": "angle", "model": "a-model", "encoder": {"adapter": ["an-adapter"]}},
        **{"suite": "sts", "protocol": "senteval", "final_norm": False, "shuffled_gold": False},
        "tasks": {task: {"limit": 200} for task in ("STS12", "STS13")},
        "runs": [run(count, own), *(run(k, scores) for k, scores in (by_k or {}).items())],
    }
    return Report.of(facts | changes, ("STS12", "STS13"), list(by_k or ()))


def test_the_table_marks_the_best_layer_and_the_turning_points() -> None:
    report = made_up([0.0, 20.0, 32.0, 35.0, 31.0])
    table = layer_report.layer_table(report)
    marks = {row[0]: row[-1] for row in table.rows}
    assert marks == {0: "all pairs alike", 1: "", 2: "largest gain", 3: "best", 4: "largest drop"}
    assert table.columns == ["layer", "STS12", "STS13", "Avg", "step", ""]
    assert table.rows[2][1:5] == [32.0, 42.0, 37.0, "+12.00"]
    assert table.rows[1][4] is None, "a step from a layer without a score is none"
    text = layer_report.text(report)
    for words in (
        *("best: layer 3, 40.00; last: layer 4, 36.00 (-4.00)", "largest gain: layer 1 to 2, +12.00"),
        *("largest drop: layer 3 to 4, -4.00", "a-model + an-adapter", "200 pairs a task", "senteval protocol"),
        *("attention causal", "token embeddings"),
    ):
        assert words in text, words


def test_the_table_over_k_marks_best_causal_and_own() -> None:
    report = made_up([10.0, 20.0, 30.0], {0: [10.0, 14.0, 12.0], 1: [10.0, 20.0, 31.0]})
    table = layer_report.k_table(report)
    assert [row[0] for row in table.rows] == ["0 (all)", "1", "2 (causal)"]
    assert [row[-1] for row in table.rows] == ["", "best, largest gain", "largest drop, the model's own"]
    assert [row[3:7] for row in table.rows] == [[17, "-18.00", 1, 19], [36, "+1.00", 2, 36], [35, "+0.00", 2, 35]]
    assert "largest gain: k = 0 to 1, +19.00" in layer_report.text(report)
    assert "bidirectional" not in layer_report.text(made_up([10.0, 20.0, 30.0])), "no such table unless asked for"


def test_steps_are_between_neighbours_only() -> None:
    assert largest_step([(0, 1.0), (5, 90.0), (6, 91.0)], 1) == Step(5, 6, 1.0)
    assert largest_step([(0, 1.0), (1, 2.0)], -1) is None
    assert largest_step([(0, 5.0), (1, 2.0), (2, 1.0)], -1) == Step(0, 1, -3.0)
    assert largest_step([], 1) is None


def test_what_makes_numbers_incomparable_is_said() -> None:
    assert "GOLD SHUFFLED" in layer_report.text(made_up([1.0, 2.0], shuffled_gold=True))
    assert "not comparable" in layer_report.text(made_up([1.0, 2.0], protocol="shipped"))
    assert "cut after its first n of 1" in layer_report.text(made_up([1.0, 2.0], final_norm=True))


def test_the_plots_show_the_curves_and_the_best_as_a_dashed_line() -> None:
    report = made_up([0.0, 20.0, 32.0, 35.0, 31.0], {k: [0.0, 20.0, 31.0, 33.0, 30.0 + k] for k in range(4)})
    (axes,) = layer_plot.plot_layers(report).axes
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_xdata()) == {3}
    average = next(line for line in axes.lines if line.get_label() == "average of 2")
    assert list(zip(*average.get_data())) == [(1, 25.0), (2, 37.0), (3, 40.0), (4, 36.0)], "layer 0 has no score"
    assert axes.get_xlabel().startswith("layer")
    assert axes.get_ylabel() == "Spearman x 100"
    left, right, _ = layer_plot.plot_k(report).axes
    (dashed,) = [line for line in left.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_xdata()) == {3}
    assert "k" in left.get_xlabel()
    assert len(right.lines) == 5, "a curve for every k"


def test_the_files_hold_the_numbers(config: Callable[..., LayersConfig], capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    made = config(bidirectional_from=["0", "2"], pooling="mean")
    assert layers.run(made) == 0
    folder = made.output
    document = json.loads((folder / "layers.json").read_text())
    assert {file.name for file in folder.iterdir()} == FILES | K_FILES
    table = pd.read_csv(folder / "layers.csv", float_precision="round_trip")
    assert len(table) == 3 * 4
    own = table[table.attention == "causal"]
    assert own[TASK].tolist() == own.Avg.tolist() == scores_of(document, 3)
    assert own.layer[own.best].tolist() == [int(np.argmax(scores_of(document, 3)))]
    over_k = pd.read_csv(folder / "bidirectional_from.csv", float_precision="round_trip")
    assert over_k.bidirectional_from.tolist() == [0, 2, 3]
    assert over_k[TASK].tolist() == [scores_of(document, k)[-1] for k in (0, 2, 3)]
    assert document["summary"]["average"] == scores_of(document, 3)
    assert [row["Avg"] for row in document["summary"]["bidirectional_from"]["rows"]] == over_k[TASK].tolist()
    printed = capsys.readouterr().out
    for name in ("layers", "bidirectional_from"):
        lines = (folder / f"{name}.md").read_text().splitlines()
        assert any("|" in line and "best" in line for line in lines)
        assert lines[0].strip("*") in printed
        image = imread(folder / f"{name}.png")
        assert image.shape[1] > 1000
        assert image.std() > 0.05, "not blank"
        svg = (folder / f"{name}.svg").read_text()
        assert "best: " in svg
        assert "Spearman x 100" in svg
    assert str(folder) in printed


# ------------------------------ wrong use: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--bidirectional_from", "last"], ["--bidirectional_from", "last", "all"]),
        (["--bidirectional_from", "all", "2"], ["--bidirectional_from", "all"]),
        (["--bidirectional_from", "1", "-1"], ["--bidirectional_from", "-1"]),
        (["--bidirectional_from", "1", "4"], ["--bidirectional_from", "4", "0 to 3"]),
        (["--model", "BERT", "--bidirectional_from", "all"], ["--bidirectional_from", "encoder"]),
        (["--model", "BERT", "--final_norm"], ["--final_norm", "BertModel"]),
        (["--model", "BERT", "--pooling", "pooler"], ["pooler", "--pooling"]),
        (["--suite", "stss"], ["--suite", "stss"]),
        (["--suite", "sts", "--data_dir", "nowhere"], ["--data_dir"]),
        (["--limit", "0"], ["--limit"]),
        (["--layers", "3"], ["--layers"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str],
    names: list[str],
    llama_folder: Path,
    bert_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(bert_folder) if word == "BERT" else word for word in words]
    for flag, value in (("--model", str(llama_folder)), ("--suite", "sts-shipped"), ("--method", "angle")):
        words += [] if flag in words else [flag, value]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if "error:" in line] == lines[-1:]
    assert all(name in lines[-1] for name in names), lines[-1]
    assert not (tmp_path / "results").exists()


# ------------------------------ real models


@pytest.mark.shared
def test_a_trained_model_scores_in_every_layer_and_as_in_a_run(
    stories: Path, config: Callable[..., LayersConfig], ordinary: Callable[..., float]
) -> None:
    made = config(model=str(stories), limit=None, pooling="mean", bidirectional_from=["0"])
    document, _ = evaluate(made)
    causal = scores_of(document, document["layers"])
    assert causal[-1] == pytest.approx(ordinary(made), abs=1e-6)
    assert min(causal) > 5, "every layer knows something of the pairs"
    assert scores_of(document, 0)[-1] < causal[-1], "attention that the model was not trained for costs it"


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.shared
def test_the_embedded_llm_on_a_real_suite(weights: tuple[str, str], shared_data: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"method": "angle", "model": weights[0], "dtype": "float32", "limit": 60}
    facts |= {"suite": "sts", "tasks": ["STSBenchmark"], "data_dir": shared_data}
    document, _ = evaluate(LayersConfig(output=tmp_path / "layers", **facts))
    found = run_module.evaluate(run_module.RunConfig(output=tmp_path / "run", **facts))["STSBenchmark"]
    scores = scores_of(document, 30, "STSBenchmark")
    assert len(scores) == 31
    assert scores[-1] == pytest.approx(found.score, abs=1e-6)
    assert document["tasks"]["STSBenchmark"]["sha256"] == found.data_hash
    assert max(scores) > 30
