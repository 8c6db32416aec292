"""The evaluation program: every kind of task, tables, what is missing, resuming, released configurations."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import read_folder
from inbedder.evaluation.tasks import AWARENESS, GENERIC

TOPICS = {"cats": "The cat {} on the mat.", "rates": "Interest rates {} by a point.", "chess": "Two men {} chess."}
WORDS = ("sat", "were raised", "played", "slept", "fell", "won", "watched", "changed")
Program = Callable[..., Any]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Small sets of our own sentences for the eight tasks of the two averages, and for SynGoalEx."""
    root = tmp_path / "data"
    texts = [(topic, form.format(word)) for topic, form in TOPICS.items() for word in WORDS]
    clusters = [{"text": text, "cluster": topic} for topic, text in texts]
    for subset in ("topic", "location"):
        write_rows(root / "NYTClustering" / subset / "test.jsonl", clusters)
    triplets = [
        {"anchor": texts[i][1], "positive": texts[i + 1][1], "negative": texts[(i + 8) % 24][1]} for i in range(7)
    ]
    for subset in ("emotion", "intent"):
        write_rows(root / "IntentEmotion" / subset / "test.jsonl", triplets)
    pairs = [
        {"sentence1": texts[i][1], "sentence2": texts[j][1], "score": int(i // 8 == j // 8), "instruction": "about?"}
        for i in range(4)
        for j in (i + 1, i + 8)
    ]
    write_rows(root / "InstructSTSB" / "test.jsonl", pairs)
    samples = [{"query": texts[i][1], "positive": [texts[i + 1][1]], "negative": [texts[i + 8][1], texts[i + 9][1]]}
               for i in range(3)]  # fmt: skip
    for name in ("askubuntudupquestions", "scidocs", "stackoverflowdupquestions"):
        write_rows(root / f"{name}-reranking" / "test.jsonl", samples)
    sets = [{"sentences": [t for _, t in texts], "labels": [topic for topic, _ in texts]}] * 2
    write_rows(root / "twentynewsgroups-clustering" / "test.jsonl", sets)
    aspects = [{"text": t, "topic": topic, "language": t[-2], "style": "ab"[i % 2]} for i, (topic, t) in
               enumerate(texts)]  # fmt: skip
    write_rows(root / "goalex" / "syngoalex.jsonl.gz", aspects)
    return root


@pytest.fixture
def run(program: Program, data_dir: Path, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run("--flag", ...)`: the program with a tiny model on that data; flags given again count."""
    monkeypatch.setattr("inbedder.evaluation.task_data.hub_reachable", lambda: False)

    def call(*words: object) -> Any:
        given = ("--model", llama_folder, "--dtype", "float32", "--data_dir", data_dir, "--output", tmp_path / "out")
        return program("inbedder/eval.py", *given, "--seeds", "0", "1", *words)

    return call


def test_every_kind_of_task_and_both_averages(run: Any, tmp_path: Path) -> None:
    done = run("--tasks", "awareness", "generic")
    assert done.code == 0, done.err
    found = read_folder(tmp_path / "out")
    assert set(found) == {*AWARENESS, *GENERIC}
    with open(tmp_path / "out" / "tables" / "scores.csv", encoding="utf-8") as handle:
        rows = {row["task"]: row for row in csv.DictReader(handle)}
    topic, location = found["NYTTopicClustering"].score, found["NYTLocationClustering"].score
    nyt = 2 * topic * location / (topic + location)
    awareness = (found["IntentEmotion"].score + nyt + found["InstructSTSBenchmark"].score) / 3
    assert float(rows["awareness average"]["score"]) == pytest.approx(awareness, abs=1e-4)
    assert float(rows["generic average"]["score"]) == pytest.approx(sum(found[n].score for n in GENERIC) / 4)
    result = found["IntentEmotion"]
    assert set(result.scores) == {"score", "emotion", "intent"}
    assert result.n == 14
    assert found["TwentyNewsgroupsClustering"].scores["sets"] == 2
    assert len(found["NYTTopicClustering"].scores["seeds"]) == 2
    assert found["AskUbuntuDupQuestions"].metric == "map"
    assert found["AskUbuntuDupQuestions"].seconds > 0


def test_what_is_missing_is_listed_and_its_average_a_dash(run: Any) -> None:
    done = run("--tasks", "NYT", "RateMyProf", "FewEvent")
    assert done.code == 0, done.err
    assert "missing: why" in done.out
    (line,) = [line for line in done.out.splitlines() if "RateMyProfClustering " in line]
    assert "no RateMyProfClustering/ in" in line
    assert "FewEventClustering" in done.out
    (average,) = [line for line in done.out.splitlines() if "awareness average" in line]
    assert not any(character.isdigit() for character in average)


def test_nothing_to_run_is_wrong_use(run: Any) -> None:
    done = run("--tasks", "RateMyProf")
    assert done.code == 2
    assert "none of the tasks has data: RateMyProfClustering: no RateMyProf" in done.err


def test_the_table_of_right_and_wrong_instructions(run: Any, tmp_path: Path) -> None:
    done = run("--tasks", "SynGoalEx", "--robustness", "--per_kind", "2")
    assert done.code == 0, done.err
    found = read_folder(tmp_path / "out")["SynGoalExTopic"]
    values = found.scores["robustness"]
    assert (values["right_count"], values["implicit_count"], values["wrong_count"]) == (2, 2, 2)
    line = [one for one in done.out.splitlines() if "SynGoalExTopic" in one][-1]
    shown = [cell.strip() for cell in line.strip("|").split("|")]
    assert shown[1:5] == [
        *(f"{values[f'{kind}_mean']:.2f}" for kind in ("right", "implicit", "wrong")),
        f"{values['margin']:+.2f}",
    ]
    tables = tmp_path / "out" / "tables"
    assert json.loads((tables / "robustness.json").read_text("utf-8"))["rows"][0]["margin"] == values["margin"]
    assert "margin" in (tables / "robustness.md").read_text("utf-8")
    # All three aspects were encoded together, and each result says so.
    assert found.data["texts_shared_with"] == ["SynGoalExLanguage", "SynGoalExStyle"]


def test_a_second_run_takes_what_is_there(run: Any, tmp_path: Path) -> None:
    run("--tasks", "SynGoalExTopic")
    file = tmp_path / "out" / "SynGoalExTopic.json"
    first = file.read_text("utf-8")
    assert run("--tasks", "SynGoalEx").code == 0
    assert file.read_text("utf-8") == first, "done before"
    assert run("--tasks", "SynGoalExTopic", "--fresh").code == 0
    assert file.read_text("utf-8") != first
    # One that asks more is run again; one that asks the published question alone is in it.
    robust = ("--tasks", "SynGoalExTopic", "--robustness", "--per_kind")
    assert run(*robust, "2").code == 0
    more = file.read_text("utf-8")
    assert json.loads(more)["scores"]["robustness"]["right_count"] == 2
    assert run("--tasks", "SynGoalExTopic").code == 0
    assert file.read_text("utf-8") == more
    assert run(*robust, "1").code == 0
    assert json.loads(file.read_text("utf-8"))["scores"]["robustness"]["right_count"] == 1


def test_results_of_another_model_are_not_mixed_in(run: Any, bos_llama_folder: Path) -> None:
    run("--tasks", "SynGoalExTopic")
    done = run("--tasks", "SynGoalExTopic", "--model", bos_llama_folder)
    assert done.code == 2
    assert "SynGoalExTopic.json: is a result of another model" in done.err
    done = run("--tasks", "SynGoalExTopic", "--limit", "12")
    assert done.code == 2
    assert "other data" in done.err


def test_weights_trained_further_in_the_same_folder_are_another_model(
    run: Any, llama_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    assert run("--tasks", "SynGoalExTopic", "--model", folder).code == 0
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if "layers.0.mlp" in n)
    save_file({**weights, name: weights[name] + 0.1}, folder / "model.safetensors", metadata={"format": "pt"})
    assert run("--tasks", "SynGoalExTopic", "--model", folder).code == 2


def test_a_released_configuration(run: Any, tmp_path: Path, llama_folder: Path) -> None:
    released = {
        "model_type": "causal",
        "model_path": str(llama_folder),
        "model_id": "tiny",
        "max_input_length": 64,
        "dtype": "float32",
        "seed": 42,
        "use_flash_attention_2": False,
        "generation_configs": {"temperature": 0.6, "top_p": 0.9, "max_new_tokens": 2, "do_sample": True},
        "batch_size": 50,
        "disable_instruction": False,
        "pattern": "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:",
    }
    file = tmp_path / "released.json"
    file.write_text(json.dumps(released), encoding="utf-8")
    done = run("--config_file", file, "--output_value", "avg_gen_layer_1", "--tasks", "SynGoalExTopic")
    assert done.code == 0, done.err
    result = read_folder(tmp_path / "out")["SynGoalExTopic"]
    assert result.encoder["reading"]["mode"] == "avg_gen_layer_1"
    assert result.encoder["reading"]["decoding"]["temperature"] == 0.6
    assert result.encoder["max_length"] == 64
    assert result.seed == 42


def test_a_baseline_with_and_without_instruction(run: Any, bert_folder: Path, tmp_path: Path) -> None:
    baseline = ("--method", "sentence-transformer", "--model", bert_folder, "--tasks", "SynGoalExTopic", "--robustness")
    plain = run(*baseline, "--instruction_form", "plain", "--output", tmp_path / "plain")
    assert plain.code == 0, plain.err
    values = read_folder(tmp_path / "plain")["SynGoalExTopic"].scores["robustness"]
    assert (values["margin"], values["dci"]) == pytest.approx((0, 0), abs=1e-9), (
        "without an instruction none can be wrong"
    )
    string = run(*baseline, "--output", tmp_path / "string")
    assert string.code == 0, string.err
    result = read_folder(tmp_path / "string")["SynGoalExTopic"]
    assert result.encoder["template"] == "{instruction}: {text}"
    assert len({tuple(v) for v in result.scores["per_instruction"].values()}) > 1


def test_without_an_instruction_the_text_stands_alone(run: Any, tmp_path: Path) -> None:
    found = {}
    for flags in (("--instruction_form", "plain"), ("--disable_instruction",)):
        done = run("--tasks", "SynGoalExTopic", *flags, "--output", tmp_path / flags[-1])
        assert done.code == 0, done.err
        found[flags[-1]] = read_folder(tmp_path / flags[-1])["SynGoalExTopic"]
        assert found[flags[-1]].encoder["template"] == "{text}"
    assert found["plain"].score == found["--disable_instruction"].score


def test_the_released_clustering_is_a_compat_switch(run: Any, tmp_path: Path) -> None:
    assert run("--tasks", "SynGoalExTopic", "--compat", "inbedder:minibatch-kmeans").code == 0
    result = read_folder(tmp_path / "out")["SynGoalExTopic"]
    assert result.data["clusters"]["kmeans"] == "mini-batch of 500"
    assert result.compat == ("inbedder:minibatch-kmeans",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "FewRle"), "no such task; did you mean FewRel"),
        (("--seeds", "1", "1"), "--seeds 1 1"),
        (("--n_init", "0"), "--n_init 0: must be at least 1"),
        (("--mode", "frist"), "output value 'frist'.*did you mean 'first'"),
        (("--mode", "fst_gen_layer_9"), "layer 9; the model has 0 to 3"),
        (("--mode", "re_encode"), "give --reencoder"),
        (("--generation_configs", '{"temprature": 1}'), "temprature is not known"),
        (("--data_dir", "nowhere"), "--data_dir nowhere: no such folder"),
        (("--method", "sentence-transformer", "--mode", "first"), "--mode and --layer are of InBedder"),
        (("--instruction_form", "string", "--tasks", "SynGoalEx"), "has a place of its own"),
    ],
)
def test_mistakes_are_one_line(run: Any, words: tuple[str, ...], message: str) -> None:
    tasks = () if "--tasks" in words else ("--tasks", "SynGoalEx")
    done = run(*tasks, *words)
    assert done.code == 2
    assert re.search(message, done.err), done.err


def test_a_dry_run_prints_the_recipe(run: Any, tmp_path: Path) -> None:
    done = run("--tasks", "SynGoalEx", "--dry_run")
    assert done.code == 0
    assert "n_init: 10" in done.out
    assert not (tmp_path / "out").exists()


def test_minilm_finds_topics_that_are_plain_to_see(run: Any, weights: tuple[str, str], tmp_path: Path) -> None:
    flags = ("--method", "sentence-transformer", "--model", weights[1], "--instruction_form", "plain")
    assert run("--tasks", "NYTTopic", *flags).code == 0
    assert read_folder(tmp_path / "out")["NYTTopicClustering"].score > 90
