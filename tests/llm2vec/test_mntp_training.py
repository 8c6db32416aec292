"""Training by MNTP: it learns what text has to teach, counts labels right, resumes, and saves what others load."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent))
from mntp_fixtures import EXACT, GOLDEN, TEXTS, bidirectional, recipe, run, run_of_several, summary

from common import token_objective
from common.attention import get_attention
from common.backbone import load_backbone
from common.encoder import Encoder
from common.errors import InputError
from common.reading import SHIPPED
from llm2vec.corpus import Texts, hold_out, read_texts
from llm2vec.mntp import blocks_of, fit_mntp, measured
from llm2vec.mntp_recipe import MntpConfig

MODEL = GOLDEN / "tiny_llama"


def adapter(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "adapter_model.safetensors")


def difference(a: Path, b: Path) -> float:
    first, second = adapter(a), adapter(b)
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


# -- it learns, and only what is there to learn -----------------------------------------------------


def learned(model: Path, out: Path, **changes: Any) -> list[dict[str, Any]]:
    """Train on the shipped passages, 15% held out; the measurements."""
    encoder = bidirectional(model)
    texts, held_out = hold_out(read_texts(str(SHIPPED / "passages.jsonl")), 15)
    config = recipe(
        out, **{"max_length": 128, "batch_size": 8, "lora_r": 8, "mlm_probability": 0.2, "epochs": 100, **changes}
    )
    blocks = blocks_of(texts, encoder, config)
    fit_mntp(encoder, blocks, config, valid=blocks_of(held_out, encoder, config))
    return measured(out)


@pytest.mark.slow
def test_masked_tokens_of_new_text_are_predicted_better(stories: Path, tmp_path: Path) -> None:
    """A trained Llama of 260 thousand parameters on real text; its twin learns how frequent tokens are, no more."""
    settings: dict[str, Any] = {"learning_rate": 5e-3, "max_steps": 40, "mask_token_type": "mask"}
    real = learned(stories, tmp_path / "real", **settings)
    twin = learned(stories, tmp_path / "twin", shuffle_labels=True, **settings)
    assert [entry["step"] for entry in real] == [0, 40]
    assert real[0] == twin[0]
    assert real[0]["tokens"] > 400
    assert real[1]["accuracy"] > 1.5 * real[0]["accuracy"]
    assert twin[1]["accuracy"] < 1.1 * real[0]["accuracy"]
    assert real[1]["loss"] < twin[1]["loss"] - 0.5 < real[0]["loss"] - 1.0


@pytest.mark.slow
def test_a_larger_model_recovers_from_bidirectional_attention(stories: Path, tmp_path: Path) -> None:
    """The Llama of 15 million parameters: the loss falls on new text; the twin's does not."""
    model = stories.parent / "stories15M"
    if not model.is_dir():
        pytest.skip(f"no trained Llama at {model}")
    settings: dict[str, Any] = {"learning_rate": 2e-3, "max_steps": 24}
    real = learned(model, tmp_path / "real", **settings)
    twin = learned(model, tmp_path / "twin", shuffle_labels=True, **settings)
    assert real[1]["loss"] < real[0]["loss"] - 0.5
    assert twin[1]["loss"] > real[0]["loss"] - 0.1
    assert real[1]["accuracy"] > real[0]["accuracy"] > twin[1]["accuracy"]


# -- what a step is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "steps"), [(2, 4), (1, 8)])
def test_accumulated_batches_are_one_batch(batch: int, steps: int, tmp_path: Path) -> None:
    """Documents of 1 to 17 words have very different numbers of labels."""
    run(tmp_path / "one", batch_size=8, **EXACT)
    run(tmp_path / "several", batch_size=batch, gradient_accumulation_steps=steps, **EXACT)
    whole, parts = summary(tmp_path / "one"), summary(tmp_path / "several")
    assert whole["steps"] == parts["steps"] == 5
    assert [loss for _, loss in whole["loss"]] == pytest.approx([loss for _, loss in parts["loss"]], abs=2e-4)
    assert difference(tmp_path / "one", tmp_path / "several") < 1e-6
    assert max(np.abs(value).max() for key, value in adapter(tmp_path / "one").items() if "lora_B" in key) > 1e-3


@pytest.mark.parametrize("batch", [4, 8])
def test_groups_of_rows_one_after_the_other_are_the_batch(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**EXACT, "line_by_line": False, "batch_size": batch, "max_length": 48}
    backward, seen = Accelerator.backward, []
    monkeypatch.setattr(Accelerator, "backward", lambda self, loss: (seen.append(1), backward(self, loss)))
    for name, most in (("whole", 10**6), ("groups", 40)):
        seen.clear()
        monkeypatch.setitem(token_objective.SPLIT_TOKENS, "cpu", most)
        monkeypatch.setitem(token_objective.WORTH_TOKENS, "cpu", most)
        run(tmp_path / name, **settings)
        steps = summary(tmp_path / name)["steps"]
        assert len(seen) == steps if name == "whole" else len(seen) >= 2 * steps
    whole, groups = (summary(tmp_path / name)["loss"] for name in ("whole", "groups"))
    assert [loss for _, loss in whole] == pytest.approx([loss for _, loss in groups], abs=2e-4)
    assert difference(tmp_path / "whole", tmp_path / "groups") < 1e-6


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    """Half the batch each: the same update, the mean over the labels of both, and the same measurements."""
    from training_fixtures import run_processes

    run(tmp_path / "one", batch_size=8, valid=True, **EXACT)
    run_processes(run_of_several, tmp_path / "two", {"batch_size": 4, **EXACT}, folder=tmp_path, count=2)
    one, two = summary(tmp_path / "one"), summary(tmp_path / "two")
    assert (one["steps"], one["tokens"]) == (two["steps"], two["tokens"])
    assert [loss for _, loss in one["loss"]] == pytest.approx([loss for _, loss in two["loss"]], abs=2e-4)
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-6
    for first, second in zip(measured(tmp_path / "one"), measured(tmp_path / "two"), strict=True):
        assert first == pytest.approx(second, abs=1e-4)


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"mask_token_type": "eos"}])
def test_ways_that_must_and_must_not_change_the_result(changes: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "a", lora_dropout=0.0)
    run(tmp_path / "b", lora_dropout=0.0, **changes)
    assert (difference(tmp_path / "a", tmp_path / "b") < 1e-5) == ("gradient_checkpointing" in changes)


def test_the_schedule_is_planned_for_all_epochs_and_stopped_before(tmp_path: Path) -> None:
    run(tmp_path, epochs=3, stop_after_n_steps=4, save_strategy="steps", save_steps=4, learning_rate=1e-3)
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    total = state["max_steps"]
    assert total > 10
    assert rates == pytest.approx([1e-3 * (1 - step / total) for step in range(4)], rel=1e-6)
    assert summary(tmp_path)["steps"] == 4


def test_a_token_budget_plans_the_schedule_and_ends_the_training(tmp_path: Path) -> None:
    run(tmp_path, max_tokens=700, batch_size=4)
    found = summary(tmp_path)
    assert 700 <= found["tokens"] < 700 + 4 * 24
    assert found["steps"] == 8


# -- measuring --------------------------------------------------------------------------------------


def test_masked_accuracy_is_measured_before_between_and_after(tmp_path: Path) -> None:
    run(tmp_path, valid=True, epochs=2, eval_steps=3, stop_after_n_steps=8)
    found = measured(tmp_path)
    assert [entry["step"] for entry in found] == [0, 3, 6, 8]
    assert len({entry["tokens"] for entry in found}) == 1
    assert all(0 <= entry["accuracy"] <= 1 for entry in found)
    assert found[-1]["loss"] != found[0]["loss"]
    assert summary(tmp_path)["validation"]["data"] == "held out"


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "with", valid=True, eval_steps=2, lora_dropout=0.2)
    run(tmp_path / "without", lora_dropout=0.2)
    run(tmp_path / "off", valid=True, eval_strategy="no", lora_dropout=0.2)
    assert difference(tmp_path / "with", tmp_path / "without") == 0.0
    assert difference(tmp_path / "with", tmp_path / "off") == 0.0
    assert measured(tmp_path / "off") == measured(tmp_path / "without") == []


def test_validation_without_a_masked_token_is_said(tmp_path: Path) -> None:
    config = recipe(tmp_path, mlm_probability=1e-6)
    encoder = bidirectional(MODEL)
    valid = blocks_of(Texts(["w1 w2"], "short"), encoder, config)
    with pytest.raises(InputError, match="short: no token is to be predicted"):
        fit_mntp(encoder, blocks_of(TEXTS, encoder, config), config, valid=valid)


# -- going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_training_masks_as_the_uninterrupted_one_did(accumulate: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "valid": True, "epochs": 3, "eval_steps": 4, "save_strategy": "steps", "save_steps": 3, "batch_size": 2,
        "save_total_limit": 99, "lora_dropout": 0.2, "gradient_accumulation_steps": accumulate,
        "stop_after_n_steps": 10,
    }  # fmt: skip
    run(tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole" / "checkpoint-6", tmp_path / "broken" / "checkpoint-6")
    run(tmp_path / "broken", **settings)
    assert difference(tmp_path / "whole", tmp_path / "broken") <= 1e-7
    whole, broken = summary(tmp_path / "whole"), summary(tmp_path / "broken")
    assert whole["loss"] == broken["loss"]
    assert whole["validation"] == broken["validation"]
    assert [entry["step"] for entry in measured(tmp_path / "broken")] == [0, 4, 8, 10]
    assert whole["tokens"] == broken["tokens"]


def test_masks_differ_from_step_to_step_and_with_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm2vec.mntp import MaskingCollator

    kept, seen = MaskingCollator.mask, []

    def watching(self: MaskingCollator, batch: dict[str, Any], generator: torch.Generator) -> None:
        kept(self, batch, generator)
        seen.append((batch["labels"] != -100).flatten()[:60].tolist())

    monkeypatch.setattr(MaskingCollator, "mask", watching)
    # One long document: all batches have the same shape.
    long = Texts([" ".join(["w5"] * 400)], "one")
    run(tmp_path / "a", texts=long, epochs=2, stop_after_n_steps=6)
    run(tmp_path / "b", texts=long, epochs=2, stop_after_n_steps=6, seed=1)
    assert len({tuple(mask) for mask in seen}) == len(seen) >= 12


def test_a_finished_training_is_loaded(tmp_path: Path) -> None:
    first = run(tmp_path, valid=True)
    before = adapter(tmp_path)
    again = run(tmp_path, valid=True)
    assert all((before[name] == value).all() for name, value in adapter(tmp_path).items())
    texts = TEXTS.texts[:5]
    np.testing.assert_allclose(first.encode(texts), again.encode(texts), atol=1e-5)


# -- what is saved ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["blank", "mask"])
def test_the_folder_is_an_adapter_of_the_trunk(kind: str, tmp_path: Path) -> None:
    encoder = run(tmp_path / "out", mask_token_type=kind)
    texts = TEXTS.texts[:6]
    trained = encoder.encode(texts)
    untrained = bidirectional(MODEL).encode(texts)
    assert np.abs(trained - untrained).max() > 1e-2
    np.testing.assert_allclose(
        trained, Encoder.from_pretrained(tmp_path / "out", dtype="float32").encode(texts), atol=1e-5
    )
    np.testing.assert_allclose(trained, bidirectional(MODEL, adapter=str(tmp_path / "out")).encode(texts), atol=1e-5)
    keys = set(adapter(tmp_path / "out"))
    assert all(key.startswith("base_model.model.layers.") for key in keys)  # as the released ones, of the inner model
    modules = {key.split(".")[-3] for key in keys}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    settings = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert (settings["method"], settings["attention"], settings["pooling"]) == ("llm2vec", "bidirectional", "mean")
    lora = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (4, 8, 0.05)
    assert len(encoder.backbone.tokenizer) == 96


def test_the_adapter_loads_on_the_trunk_in_plain_peft(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    run(tmp_path)
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(MODEL), str(tmp_path))
    loaded = {key: value for key, value in model.state_dict().items() if "lora_B" in key}
    assert loaded
    for key, value in loaded.items():
        np.testing.assert_array_equal(value.numpy(), adapter(tmp_path)[key.replace(".default", "")])


def test_the_head_is_no_part_of_what_is_trained(tmp_path: Path) -> None:
    encoder = run(tmp_path)
    trunk: Any = encoder.backbone.model
    table = load_backbone(str(MODEL), dtype="float32").model.get_input_embeddings().weight  # type: ignore[operator]
    assert torch.equal(trunk.get_input_embeddings().weight, table)
    assert not any("head" in key or "embed" in key for key in adapter(tmp_path))
    assert not hasattr(encoder.embedder, "head")
    assert get_attention(trunk) == "bidirectional"


def test_a_tied_head_trains_too(llama_folder: Path, tmp_path: Path) -> None:
    run(tmp_path, valid=True, model=llama_folder, max_steps=15, texts=read_texts(str(SHIPPED / "passages.jsonl")))
    first, last = measured(tmp_path)
    assert last["loss"] < first["loss"]


def test_whole_weights_are_saved_with_merge(tmp_path: Path) -> None:
    encoder = run(tmp_path, merge=True)
    again = Encoder.from_pretrained(tmp_path, dtype="float32")
    assert again.info.attention == "bidirectional"
    np.testing.assert_allclose(encoder.encode(TEXTS.texts[:5]), again.encode(TEXTS.texts[:5]), atol=1e-5)


# -- wrong use --------------------------------------------------------------------------------------


def test_a_causal_model_is_refused(make_encoder: Any, tmp_path: Path) -> None:
    encoder = make_encoder("llama")
    config = recipe(tmp_path)
    with pytest.raises(InputError, match="MNTP trains a bidirectional model"):
        fit_mntp(encoder, blocks_of(TEXTS, encoder, config), config)


def test_blocks_are_no_longer_than_the_model_reads(tmp_path: Path) -> None:
    encoder = bidirectional(MODEL)
    long = Texts([" ".join(["w5"] * 600)], "long")
    blocks = blocks_of(long, encoder, recipe(tmp_path, max_length=512))
    assert max(len(blocks[i][1]["rows"][0]) for i in range(len(blocks))) == 256  # max_position_embeddings
    lines = blocks_of(long, encoder, recipe(tmp_path, max_length=512, line_by_line=True))
    assert [len(row) for row in lines[0][1]["rows"]] == [256]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlm_probability": 0.0}, "--mlm_probability 0.0: must be above 0"),
        ({"mlm_probability": 1.5}, "--mlm_probability 1.5: must be above 0 and at most 1"),
        ({"validation_split_percentage": 100}, "--validation_split_percentage 100"),
        ({"line_by_line": True, "cross_document_attention": True}, "--line_by_line and --cross_document_attention"),
        ({"stop_after_n_steps": 0}, "--stop_after_n_steps 0: must be at least 1"),
        ({"max_eval_samples": 0}, "--max_eval_samples 0"),
        ({"shipped": True}, "--shipped and --train_name_or_path texts: give one of them"),
        ({"streaming": True, "max_steps": 5}, "--streaming: MNTP trains on plain text"),
        ({"shuffle_positives": True}, "--shuffle_positives: MNTP trains on plain text"),
        ({"grad_cache_tokens": 5}, "--grad_cache_tokens: MNTP trains on plain text"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        recipe(tmp_path, **changes)


def test_defaults_are_those_of_the_released_script() -> None:
    config = MntpConfig(model_name_or_path="meta-llama/Llama-2-7b-chat-hf")
    assert config.train_name_or_path == "Salesforce/wikitext"
    assert config.train_subset_name == "wikitext-103-raw-v1"
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (8, 16, 0.05)
    assert (config.mlm_probability, config.data_collator_type, config.mask_token_type) == (0.15, "default", "blank")
    assert (config.learning_rate, config.epochs, config.warmup_steps, config.batch_size) == (5e-5, 3, 0, 8)
    assert (config.stop_after_n_steps, config.validation_split_percentage) == (10_000, 5)
    assert config.output_dir == Path("ckpts/mntp/Llama-2-7b-chat-hf")
    assert config.report_to == ("tensorboard",)
    assert not config.cross_document_attention
    assert MntpConfig(shipped=True).train_name_or_path is None
    assert MntpConfig(train_name_or_path="a.txt").train_subset_name is None
    assert MntpConfig(lora_r=16).lora_alpha == 32
    assert MntpConfig(lora_r=16, lora_alpha=5).lora_alpha == 5
