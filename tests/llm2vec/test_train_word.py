"""`llm2vec/train_word.py` as a command: training, testing a classifier, released configs, real data, wrong use."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from word_fixtures import write_data

from benchmarks.results import read_folder
from common import cli
from llm2vec.train_word import OPTIONS
from llm2vec.word_recipe import WordConfig

REPO = Path(__file__).resolve().parents[2]
PROGRAM = "llm2vec/train_word.py"
CONFIGS = sorted((REPO / "llm2vec" / "configs" / "word-task").glob("*.yaml"))
# Extracts of McGill-NLP/llm2vec@312adcf, train_configs/word-task and test_configs/word-task (Llama2-bi-mntp-simcse).
RELEASED = {
    "model_name_or_path": "McGill-NLP/LLM2Vec-Llama-2-7b-chat-hf-mntp",
    "peft_addr": "McGill-NLP/LLM2Vec-Llama-2-7b-chat-hf-mntp-unsup-simcse",
    "model_class": "custom", "bidirectional": True, "classifier_dropout": 0.1, "torch_dtype": "bfloat16",
    "attn_implementation": "flash_attention_2", "merge_subwords": True, "retroactive_labels": "next_token",
    "output_dir": "output/word-task", "dataset_name": "conll2003", "task": "pos_tags",
}  # fmt: skip
RELEASED_TRAINING = {
    **RELEASED, "num_train_epochs": 10, "learning_rate": 5e-4, "do_train": True, "save_steps": 250,
    "logging_steps": 50, "save_strategy": "steps", "do_eval": True, "eval_steps": 500,
    "evaluation_strategy": "steps", "overwrite_output_dir": True, "stop_after_n_steps": 4000,
    "remove_unused_columns": False,
}  # fmt: skip
RELEASED_TEST = {**RELEASED, "cls_addr": "output/checkpoint-3000", "max_seq_length": 512}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a data set "conll2003"."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "conll2003", train=40, test=20)
    return folder


def words(model: Path, data: Path, out: Path, *more: object) -> list[object]:
    return [
        PROGRAM, "--model_name_or_path", model, "--data_dir", data, "--output_dir", out, "--device", "cpu",
        "--dtype", "float32", "--epochs", 2, "--learning_rate", "1e-2", "--save_steps", 5, *more,
    ]  # fmt: skip


def test_two_tasks_from_one_pass(program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path) -> None:
    done = program(*words(llama_folder, data, tmp_path, "--task", "pos_tags", "ner_tags"))
    assert done.code == 0, done.err
    results = read_folder(tmp_path / "results")  # the schema of every benchmark
    assert list(results) == ["conll2003-ner_tags", "conll2003-pos_tags"]
    ner, pos = results.values()
    assert (ner.suite, ner.protocol, ner.metric) == ("word-level", "linear-probe", "token_accuracy")
    counts = ner.scores["counts"]
    assert counts["sentences"] == ner.texts == 20
    assert counts["tokens"] == ner.n == pos.n
    assert counts["gold_entities"] > 10
    assert "entity_f1" not in pos.scores
    assert "entity_f1" in ner.scores
    for result, task in ((ner, "ner_tags"), (pos, "pos_tags")):
        assert result.scores["token_accuracy"] == counts["tokens"] ** -1 * result.scores["counts"]["correct_tokens"]
        assert result.score == 100 * result.scores["token_accuracy"]
        assert set(result.scores["floors"]) == {"majority_tag", "majority_tag_of_word"}
        with np.load(result.path.with_suffix(".npz")) as arrays:
            assert (arrays["prediction"] == arrays["gold"]).mean() == result.scores["token_accuracy"]
        summary = json.loads((tmp_path / task / "result_summary.json").read_text())
        assert summary["precision"] == summary["token_accuracy"] == result.scores["token_accuracy"]
        assert f"{100 * result.scores['token_accuracy']:.2f}" in done.out
    assert summary["counts"]["tokens"] == counts["tokens"]
    assert f"20 sentences, {counts['tokens']} words, {counts['gold_entities']} entities; trained on 40" in done.out
    assert "floor: most frequent tag" in done.out
    # One pass over each split, whatever the number of tasks: each bears its share.
    done = program(*words(llama_folder, data, tmp_path / "one", "--task", "pos_tags"))
    assert done.code == 0, done.err
    alone = read_folder(tmp_path / "one" / "results")["conll2003-pos_tags"]
    assert alone.tokens // 2 == ner.tokens == pos.tokens
    assert alone.scores == pos.scores


def test_a_classifier_is_tested_as_it_was(
    program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert program(*words(llama_folder, data, out, "--task", "ner_tags", "--test_step", 5)).code == 0
    first = read_folder(out / "results")["conll2003-ner_tags"]
    by_path = words(llama_folder, data, tmp_path / "again", "--task", "ner_tags", "--cls_addr", out / "checkpoint-5")
    done = program(*by_path)
    assert done.code == 0, done.err
    again = read_folder(tmp_path / "again" / "results")["conll2003-ner_tags"]
    assert again.scores == first.scores
    assert not list((tmp_path / "again").glob("classifier*"))
    assert "trained on 40 sentences" in done.out
    for more, message in (
        (["--retroactive_labels", "same_token"], "retroactive_labels 'next_token', not 'same_token'"),
        (["--no_merge_subwords"], "merge_subwords True, not False"),
        (["--task", "pos_tags"], "task 'ner_tags', not 'pos_tags'"),
    ):
        wrong = program(*by_path, *more)
        assert wrong.code == 2
        assert message in wrong.err
    here = program(*words(llama_folder, data, out, "--task", "ner_tags", "--eval_only", "--no_bidirectional"))
    assert here.code == 0, here.err
    assert read_folder(out / "results")["conll2003-ner_tags"].encoder["attention"] == "causal"


def test_all_ways_to_keep_states_give_the_same_scores(
    program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    found = {}
    for cache in ("memory", "disk", "none", "auto"):
        done = program(*words(llama_folder, data, tmp_path / cache, "--cache", cache, "--cache_gb", 0))
        assert done.code == 0, done.err
        found[cache] = read_folder(tmp_path / cache / "results")["conll2003-pos_tags"]
    assert len({json.dumps(result.scores, sort_keys=True) for result in found.values()}) == 1
    assert found["none"].tokens > found["memory"].tokens == found["disk"].tokens == found["auto"].tokens


def test_files_in_place_of_a_data_set(
    program: Callable[..., Any], bert_folder: Path, data: Path, tmp_path: Path
) -> None:
    """And an encoder, read as it is; the first training sentences are held out where there is no validation file."""
    folder = data / "conll2003"
    more = ["--train_file", folder / "train.jsonl", "--test_file", folder / "test.jsonl", "--model_class", "auto",
            "--retroactive_labels", "same_token", "--max_train_samples", 30, "--max_eval_samples", 7,
            "--eval_steps", 2]  # fmt: skip
    done = program(*words(bert_folder, data, tmp_path, *more))
    assert done.code == 0, done.err
    result = read_folder(tmp_path / "results")["test-pos_tags"]
    assert (result.limit, result.texts) == (7, 7)
    assert result.method == "sentence-transformer"
    assert "7 sentences" in done.out
    assert "(of 20)" in done.out
    assert "trained on 30 sentences" in done.out


@pytest.mark.parametrize("released", [RELEASED_TRAINING, RELEASED_TEST], ids=["train", "test"])
def test_released_configs_run_unchanged(program: Callable[..., Any], tmp_path: Path, released: dict[str, Any]) -> None:
    file = tmp_path / "Llama2.json"
    file.write_text(json.dumps(released))
    done = program(PROGRAM, file, "--dry_run")
    assert done.code == 0, done.err
    found = yaml.safe_load(done.out)
    expected: dict[str, Any] = {
        "model_name_or_path": RELEASED["model_name_or_path"], "adapter": [RELEASED["peft_addr"]],
        "bidirectional": True, "dtype": "bfloat16", "retroactive_labels": "next_token", "task": ["pos_tags"],
        "epochs": 10.0, "learning_rate": 5e-4, "batch_size": 8, "stop_after_n_steps": 4000, "save_steps": 250,
        "eval_only": "cls_addr" in released, "seed": 42,
    }  # fmt: skip
    if "cls_addr" in released:
        expected |= {"classifier_path": "output/checkpoint-3000", "max_length": 512}
    assert {name: found[name] for name in expected} == expected
    as_flag = program(PROGRAM, "--config_file", file, "--dry_run")  # as test_word_task.py takes it
    assert as_flag.out == done.out


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_is_a_row_of_table_4(file: Path) -> None:
    config = cli.parse(WordConfig, ["--config", str(file)], **OPTIONS)
    row = file.stem.partition("uni" if file.stem.endswith("uni") else "bi")[0].rstrip("-")
    steps = file.stem.removeprefix(row).lstrip("-")
    assert config.bidirectional == (steps != "uni")
    assert config.retroactive_labels == ("next_token" if "mntp" in steps else "same_token")
    assert len(config.adapter) == ("mntp" in steps)
    assert [name.endswith("-unsup-simcse") for name in config.adapter] == ["simcse" in steps] * ("mntp" in steps)
    assert config.model_name_or_path is not None
    assert config.model_name_or_path.endswith("-mntp") == ("simcse" in steps)
    assert set(config.task) == {"chunk_tags", "ner_tags", "pos_tags"}
    assert (config.epochs, config.learning_rate, config.batch_size) == (10, 5e-4, 8)
    assert (config.stop_after_n_steps, config.test_step, config.save_steps) == (4000, 3000, 250)
    assert config.output_dir.name == file.stem
    assert "McGill-NLP/llm2vec@312adcf" in file.read_text()


def test_the_whole_matrix_is_there() -> None:
    models = ("llama-2-7b-chat", "mistral-7b-instruct-v0.2", "sheared-llama-1.3b")
    rows = ("uni", "bi", "bi-mntp", "bi-mntp-simcse")
    assert {file.stem for file in CONFIGS} == {f"{model}-{row}" for model in models for row in rows}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "ner_tags"], "--tasks (did you mean --task?)"),
        (["--retroactive_labels", "next_word"], "next_token, same_token"),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1"),
        (["--classifier_dropout", "1"], "--classifier_dropout 1.0: must be at least 0 and below 1"),
        (["--task", "pos_tags", "pos_tags"], "each at most once"),
        (["--test_step", "30"], "--test_step 30: no checkpoint is kept there"),
        (["--train_file", "x.jsonl"], "--train_file: needs --test_file too"),
        (["--model_class", "auto"], "needs --retroactive_labels same_token"),
        (["--tokenizer_name", "x"], "the model's own is used"),
        (["--data_dir", "nowhere"], "--dataset_name conll2003: no train.jsonl.gz"),
        ([], "missing: --model_name_or_path"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    program: Callable[..., Any], tmp_path: Path, more: list[str], message: str
) -> None:
    model = [] if not more else ["--model_name_or_path", "no/model"]
    done = program(PROGRAM, *model, "--output_dir", tmp_path / "out", *more)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_flags_need_no_torch() -> None:
    code = "import sys, llm2vec.train_word; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0


def test_folders_differ_where_states_do() -> None:
    names = {
        WordConfig(model_name_or_path="org/m", **changes).output_dir  # type: ignore[arg-type]
        for changes in (
            {},
            {"bidirectional": False},
            {"retroactive_labels": "same_token"},
            {"adapter": ["org/a"]},
            {"dataset_name": "conll2000"},
        )
    }
    assert len(names) == 5


@pytest.mark.shared
def test_real_data_and_a_trained_model(
    program: Callable[..., Any], stories: Path, shared_data: Path, tmp_path: Path
) -> None:
    """A trained Llama knows more of a word than how often each tag occurs; of shuffled tags it does not."""
    from seqeval.metrics.sequence_labeling import get_entities

    options = ["--task", "pos_tags", "ner_tags", "--max_train_samples", 400, "--max_eval_samples", 300,
               "--retroactive_labels", "same_token", "--no_bidirectional", "--eval_strategy", "no"]  # fmt: skip
    found = {}
    for name, more in {"true": [], "shuffled": ["--shuffle_labels"]}.items():
        done = program(*words(stories, shared_data, tmp_path / name, *options, *more))
        assert done.code == 0, done.err
        assert ("TAGS SHUFFLED" in done.out) == (name == "shuffled")
        found[name] = read_folder(tmp_path / name / "results")
    pos, ner = (found["true"][f"conll2003-{task}"] for task in ("pos_tags", "ner_tags"))
    assert pos.data["source"].endswith("conll2003/test.jsonl.gz")
    with gzip.open(shared_data / "conll2003" / "test.jsonl.gz", "rt") as lines:
        tags = [json.loads(line)["ner"] for line in itertools.islice(lines, 300)]  # IOB1; seqeval reads that too
    assert ner.scores["counts"]["gold_entities"] == len(get_entities(tags))
    floor = pos.scores["floors"]["majority_tag"]["token_accuracy"]
    assert pos.scores["token_accuracy"] > floor + 0.2
    assert ner.scores["entity_f1"] > 0.02
    for result in found["shuffled"].values():
        assert result.scores["token_accuracy"] <= result.scores["floors"]["majority_tag"]["token_accuracy"] + 0.01
    assert found["shuffled"]["conll2003-ner_tags"].scores["entity_f1"] < 0.02
