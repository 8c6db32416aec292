from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from training_fixtures import run_processes, sentences, write_jsonl

import angle.fit
from angle.encoder import load
from angle.recipe import AngleConfig
from angle.train import main
from common import cli, embedder, training
from common.batching import pad
from common.data import Collator, RowList, load_rows
from common.encoder import Encoder
from common.errors import InputError
from common.lora import prepare_for_training
from common.training import last_checkpoint, steps_for_budget, world_size_from_environment

TRAIN, VALID = sentences()[:72], sentences()[72:]
TEXTS = [row["query"] for row in VALID[:9]] + [row["positive"] for row in VALID[:9]]


def rows_of(rows: list[dict[str, Any]]) -> RowList:
    return RowList(rows, "sentences")


def run(model: Path, out: Path, *, rows: list[dict[str, Any]] = TRAIN, valid: bool = False, **changes: Any) -> Encoder:
    """Train in this process; fp32, few steps."""
    settings: dict[str, Any] = {
        "batch_size": 24, "epochs": 2, "learning_rate": 5e-3, "warmup_steps": 0,
        "logging_steps": 1, "bf16": False,
    }  # fmt: skip
    if valid:
        settings["valid_name_or_path"] = "sentences"
    config = AngleConfig(output_dir=out, **{**settings, **changes})
    torch.manual_seed(0)
    encoder = load(str(model), dtype="float32", pooling="mean")
    return angle.fit.fit(encoder, rows_of(rows), config, valid=rows_of(VALID) if valid else None)


def trained_weights(encoder: Encoder) -> dict[str, np.ndarray]:
    named = encoder.embedder.named_parameters()
    return {n: p.detach().numpy().copy() for n, p in named if p.requires_grad}


def largest_difference(a: Encoder, b: Encoder) -> float:
    first, second = trained_weights(a), trained_weights(b)
    assert first.keys() == second.keys()
    # Softmax makes the gradient of key biases zero, so AdamW follows the sign of its rounding there.
    compared = [name for name in first if not name.endswith("key.bias")]
    assert compared
    return max(float(np.abs(first[name] - second[name]).max()) for name in compared)


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "training.json").read_text(encoding="utf-8"))


def states(out: Path) -> dict[str, Any]:
    newest = last_checkpoint(out)
    assert newest is not None
    return json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))


def valid_losses(out: Path) -> list[float]:
    return [entry["eval_loss"] for entry in states(out)["log_history"] if "eval_loss" in entry]


# -- it learns, and only what is there to learn -----------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_llama"])
def test_training_learns_what_holds_for_new_texts(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    real, control = tmp_path / "real", tmp_path / "control"
    settings: dict[str, Any] = {"epochs": 12, "valid": True, "eval_steps": 6, "lora_r": 8}
    run(model, real, **settings)
    run(model, control, shuffle_positives=True, **settings)
    losses = [loss for _, loss in summary(real)["loss"]]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert valid_losses(real)[-1] < 0.8 * valid_losses(real)[0]
    # With positives of other rows nothing holds for new texts: the twin of the same length does not fall.
    assert valid_losses(control)[-1] > 0.95 * valid_losses(real)[0]
    assert "shuffled positive" in summary(control)["data"]


def test_a_stream_trains_as_the_list_does_without_shuffling(tiny_bert: Path, tmp_path: Path) -> None:
    from datasets import IterableDataset

    from common.data import RowStream

    def generate() -> Any:
        yield from TRAIN

    stream = RowStream(IterableDataset.from_generator(generate), "stream", None, None)
    config = AngleConfig(
        output_dir=tmp_path / "s", batch_size=24, max_steps=2, streaming=True, warmup_steps=0, logging_steps=1
    )
    angle.fit.fit(load(str(tiny_bert), dtype="float32"), stream, config)
    assert summary(tmp_path / "s")["steps"] == 2
    lengths = Collator(load(str(tiny_bert)))(list(enumerate(TRAIN[:48])))["lengths"]
    assert summary(tmp_path / "s")["tokens"] == sum(lengths)  # the first 48 rows, in their order


# -- what is written --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_llama"])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_folder_opens_with_the_vectors_of_the_trained_encoder(
    kind: str, bf16: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    encoder = run(request.getfixturevalue(kind), tmp_path / "out", bf16=bf16)
    weights = "adapter_model.safetensors" if kind == "tiny_llama" else "model.safetensors"
    for name in (weights, "encoder.json", "README.md", "training.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).is_file(), name
    again = Encoder.from_pretrained(tmp_path / "out", dtype="float32")
    np.testing.assert_allclose(encoder.encode(TEXTS), again.encode(TEXTS), atol=1e-5)
    untrained = load(str(request.getfixturevalue(kind)), dtype="float32", pooling="mean").encode(TEXTS)
    assert np.abs(encoder.encode(TEXTS) - untrained).max() > 1e-3
    assert not encoder.embedder.training


def test_autocast_ends_with_the_training(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several lengths are run in groups; the trainer's one autocast context must not be entered for each."""
    monkeypatch.setitem(embedder.SPLIT_TOKENS, "cpu", 30)
    trained = run(tiny_llama, tmp_path / "out", epochs=1, bf16=True)
    assert not torch.is_autocast_enabled("cpu")
    loaded = Encoder.from_pretrained(tmp_path / "out", dtype="float32")
    np.testing.assert_allclose(trained.encode(TEXTS), loaded.encode(TEXTS), atol=1e-5)


def test_a_checkpoint_opens_too(tiny_llama: Path, tmp_path: Path) -> None:
    run(tiny_llama, tmp_path, save_steps=3, save_total_limit=9)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    half = Encoder.from_pretrained(tmp_path / "checkpoint-3", dtype="float32").encode(TEXTS)
    whole = Encoder.from_pretrained(tmp_path / "checkpoint-6", dtype="float32").encode(TEXTS)
    assert np.abs(half - whole).max() > 1e-4
    for name in ("README.md", "training.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert (tmp_path / "checkpoint-3" / name).is_file(), name


def test_merged_weights(tiny_llama: Path, tmp_path: Path) -> None:
    encoder = run(tiny_llama, tmp_path, merge=True)
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / "adapter_model.safetensors").exists()
    again = Encoder.from_pretrained(tmp_path, dtype="float32")
    np.testing.assert_allclose(encoder.encode(TEXTS), again.encode(TEXTS), atol=1e-5)


def test_training_json_counts_steps_tokens_and_losses(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = run(tiny_bert, tmp_path, epochs=2)
    found = summary(tmp_path)
    assert found["steps"] == 6
    texts = [row[c] for row in TRAIN for c in ("query", "positive", "negative")]
    assert found["tokens"] == 2 * sum(map(len, encoder.tokenize(texts)))
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5, 6]
    assert found["data"] == "sentences"
    assert found["seconds"] > 0
    assert found["environment"]["packages"] if "packages" in found["environment"] else found["environment"]


def test_the_validation_loss_is_that_of_the_objective(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = run(tiny_bert, tmp_path, epochs=1, valid=True, eval_steps=3)
    batch = Collator(encoder)(list(enumerate(VALID)))
    encoder.embedder.eval()
    with torch.no_grad():
        vectors = encoder.embedder(batch["input_ids"], batch["attention_mask"])
        ids = dict(zip(batch["columns"], batch["text_ids"].chunk(3)))
        columns = dict(zip(batch["columns"], vectors.chunk(3)))
        expected = angle.fit.objective_of(AngleConfig(output_dir=tmp_path))(columns, None, text_ids=ids)
    assert valid_losses(tmp_path) == [pytest.approx(expected.item(), abs=1e-4)]


# -- budgets ----------------------------------------------------------------------------------------


def test_a_token_budget_ends_the_training_at_the_budget(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = load(str(tiny_bert), dtype="float32")
    texts = [row[c] for row in TRAIN for c in ("query", "positive", "negative")]
    epoch = sum(map(len, encoder.tokenize(texts)))
    budget = int(2.5 * epoch)
    run(tiny_bert, tmp_path, max_tokens=budget, epochs=1)
    found = summary(tmp_path)
    assert budget <= found["tokens"] < budget + epoch / 3 * 1.2
    config = AngleConfig(output_dir=tmp_path, max_tokens=budget, batch_size=24)
    assert steps_for_budget(config, rows_of(TRAIN), Collator(encoder)) == math.ceil(budget / (epoch / 3))


def test_a_token_budget_needs_rows_that_can_be_counted(tiny_bert: Path, tmp_path: Path) -> None:
    config = AngleConfig(output_dir=tmp_path, max_tokens=100, streaming=True, max_steps=5)
    with pytest.raises(InputError, match="--max_tokens: not with --streaming"):
        steps_for_budget(config, None, None)  # type: ignore[arg-type]


def test_fewer_rows_than_a_batch_are_said_in_one_line(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sentences: 72 rows are fewer than one batch of 73") as caught:
        run(tiny_bert, tmp_path, batch_size=73)
    assert "\n" not in str(caught.value)


def test_rows_of_all_processes_count(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size_from_environment() == 4
    with pytest.raises(InputError, match="fewer than one batch of 96"):
        run(tiny_bert, tmp_path, batch_size=24)


# -- the same gradients by other ways ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny_bert_without_dropout", "tiny_llama"])
@pytest.mark.parametrize(
    "changes", [{"grad_cache_tokens": 30}, {"gradient_checkpointing": True}, {"filter_duplicate": False}]
)
def test_ways_that_must_not_change_the_result(
    kind: str, changes: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The rows have different nouns, so no text is in a batch twice, and masking changes nothing."""
    model = request.getfixturevalue(kind)
    rows = sorted(TRAIN, key=lambda row: row["query"])[::9]
    settings = {"rows": rows, "batch_size": 4, "lora_dropout": 0.0}
    a = run(model, tmp_path / "a", **settings)
    b = run(model, tmp_path / "b", **settings, **changes)
    assert largest_difference(a, b) < 2e-5
    losses = [[loss for _, loss in summary(tmp_path / n)["loss"]] for n in "ab"]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_accumulation_is_the_mean_of_the_batches(tiny_bert_without_dropout: Path, tmp_path: Path) -> None:
    """One SGD step over three batches, by hand: the mean of their gradients."""
    seen: list[dict[str, Any]] = []
    rows = TRAIN[:24]
    kept = training.EmbeddingTrainer.training_step

    def watching(self: Any, model: Any, inputs: Any, items: Any = None) -> Any:
        seen.append(inputs)
        return kept(self, model, inputs, items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.EmbeddingTrainer, "training_step", watching)
        trained = run(
            tiny_bert_without_dropout,
            tmp_path,
            rows=rows,
            batch_size=8,
            gradient_accumulation_steps=3,
            epochs=1,
            optim="sgd",
            learning_rate=0.1,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
        )
    assert len(seen) == 3
    by_hand = load(str(tiny_bert_without_dropout), dtype="float32", pooling="mean")
    objective = angle.fit.objective_of(AngleConfig(output_dir=tmp_path))
    losses = []
    for batch in seen:
        vectors = by_hand.embedder(batch["input_ids"], batch["attention_mask"])
        columns = dict(zip(batch["columns"], vectors.chunk(3)))
        ids = dict(zip(batch["columns"], batch["text_ids"].chunk(3)))
        losses.append(objective(columns, None, text_ids=ids))
    mean = torch.stack(losses).mean()
    mean.backward()
    with torch.no_grad():
        for parameter in by_hand.embedder.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert largest_difference(trained, by_hand) < 1e-6
    assert summary(tmp_path)["loss"] == [[1, pytest.approx(mean.item(), abs=1e-4)]]


@pytest.mark.slow
def test_four_bit_base_with_lora(wide_llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    encoder = load(str(wide_llama), dtype="float32", quantize="4bit")
    config = AngleConfig(output_dir=tmp_path, batch_size=24, max_steps=3, warmup_steps=0, logging_steps=1, bf16=False)
    angle.fit.fit(encoder, rows_of(TRAIN), config)
    assert all(math.isfinite(loss) for _, loss in summary(tmp_path)["loss"])
    assert {n.split(".")[-3] for n in trained_weights(encoder)} <= {"lora_A", "lora_B"}
    again = Encoder.from_pretrained(tmp_path, dtype="float32", quantize="4bit")
    # Freshly loaded 4-bit weights go through another kernel on CPUs (bf16 inside) than those just trained.
    assert encoder.similarity_pairwise(encoder.encode(TEXTS), again.encode(TEXTS)).min() > 0.999


def test_four_bit_gradients_reach_the_first_layer(wide_llama: Path) -> None:
    """bitsandbytes repacks the weights at a first inference on a CPU, for a product without a gradient."""
    pytest.importorskip("bitsandbytes")
    gradients = {}
    for quantize in (None, "4bit"):
        encoder = load(str(wide_llama), dtype="float32", quantize=quantize)
        encoder.encode(TEXTS)
        torch.manual_seed(0)
        prepare_for_training(encoder, apply_lora=True, r=4, alpha=4, dropout=0.0, target_modules=["q_proj"])
        ids, mask = pad(encoder.tokenize(TEXTS[:4]), 0)
        encoder.embedder.train()(ids, mask)[:, :8].sum().backward()
        gradients[quantize] = [
            p.grad.flatten() for n, p in encoder.embedder.named_parameters() if "layers.0" in n and "lora_B" in n
        ]
    assert gradients[None]
    for exact, low in zip(gradients[None], gradients["4bit"]):
        assert torch.cosine_similarity(exact, low, dim=0) > 0.8


def test_reports_go_where_they_are_asked_for(tiny_bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tiny_bert, tmp_path, report_to=["tensorboard"])
    assert list(tmp_path.rglob("events.out.tfevents*"))


# -- checkpoints and going on -----------------------------------------------------------------------


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nothing") is None
    for step, state in ((2, "{}"), (9, "{}"), (10, '{"half'), (11, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_a_folder_with_another_name_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) is None


def test_checkpoints_by_time(tiny_bert: Path, tmp_path: Path) -> None:
    run(tiny_bert, tmp_path, save_strategy="no", save_minutes=1e-9, save_total_limit=99)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 6
    run(tiny_bert, tmp_path / "none", save_strategy="no", save_minutes=None)
    assert not list((tmp_path / "none").glob("checkpoint-*"))


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"max_steps": 4}])
def test_a_finished_run_is_not_trained_further(tiny_bert: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    first = run(tiny_bert, tmp_path, **changes)
    steps = summary(tmp_path)["steps"]
    second = run(tiny_bert, tmp_path, **changes)
    assert summary(tmp_path)["steps"] == steps
    assert largest_difference(first, second) == 0.0


def test_without_resume_training_begins_anew(tiny_bert: Path, tmp_path: Path) -> None:
    run(tiny_bert, tmp_path / "a", epochs=1)
    again = run(tiny_bert, tmp_path / "a", epochs=2, resume=False)
    fresh = run(tiny_bert, tmp_path / "b", epochs=2)
    assert largest_difference(again, fresh) == 0.0


def command(model: Path, data: Path, out: Path, words: list[str]) -> list[str]:
    return [
        "--model_name_or_path", str(model), "--train_name_or_path", str(data), "--output_dir", str(out),
        "--batch_size", "12", "--epochs", "3", "--learning_rate", "3e-3", "--warmup_steps", "0.2",
        "--logging_steps", "1", "--save_steps", "4", "--bf16", "0", "--load_kbit", "32", *words,
    ]  # fmt: skip


def run_command(argv: list[str]) -> None:
    """What `angle/train.py` does with these words."""
    torch.set_num_threads(1)
    sys.argv = ["train.py", *argv]
    main(cli.parse(AngleConfig, argv))


def killed_while_saving(argv: list[str], step: int) -> None:
    """The same command, killed like `kill -9` does in the middle of writing the checkpoint of a step."""
    kept = transformers.Trainer._save_rng_state

    def kill(self: Any, output_dir: str) -> None:
        if self.state.global_step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        kept(self, output_dir)

    transformers.Trainer._save_rng_state = kill  # type: ignore[method-assign]
    run_command(argv)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tiny_llama", ["--lora_dropout", "0.2", "--lora_r", "4"]),
        ("tiny_llama", ["--lora_dropout", "0.2", "--lora_r", "4", "--grad_cache_tokens", "60"]),
        ("tiny_bert", []),  # all weights; dropout 0.1
        ("tiny_bert", ["--gradient_accumulation_steps", "2"]),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(
    kind: str, words: list[str], tmp_path: Path, triplet_file: Path, request: pytest.FixtureRequest
) -> None:
    """72 rows in batches of 12, 3 epochs: 18 steps, killed while the checkpoint of step 8 is written."""
    from safetensors.numpy import load_file

    model = request.getfixturevalue(kind)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    accumulate = "--gradient_accumulation_steps" in words
    codes = run_processes(killed_while_saving, command(model, triplet_file, broken, words), 8, folder=tmp_path)
    assert codes == [-signal.SIGKILL]
    assert last_checkpoint(broken) == broken / "checkpoint-4"
    assert (broken / "checkpoint-8").is_dir()
    assert not (broken / "encoder.json").exists()
    assert run_processes(run_command, command(model, triplet_file, broken, words), folder=tmp_path) == [0]
    assert "checkpoint-4" in (tmp_path / "log-0.txt").read_text()
    assert run_processes(run_command, command(model, triplet_file, whole, words), folder=tmp_path) == [0]
    name = "adapter_model.safetensors" if kind == "tiny_llama" else "model.safetensors"
    a, b = load_file(whole / name), load_file(broken / name)
    assert a.keys() == b.keys()
    assert max(float(np.abs(a[key] - b[key]).max()) for key in a) <= 1e-7
    first, second = summary(whole), summary(broken)
    assert (first["steps"], first["tokens"]) == (second["steps"], second["tokens"])
    assert first["steps"] == (9 if accumulate else 18)
    assert first["loss"] == second["loss"]


def test_load_rows_and_training_agree_on_the_file(triplet_file: Path) -> None:
    rows = load_rows(str(triplet_file))
    assert isinstance(rows, RowList)
    assert rows.rows == TRAIN


def test_a_graded_file_trains(tiny_bert: Path, tmp_path: Path) -> None:
    pairs = [{"text1": r["query"], "text2": r["positive"], "label": i / 24} for i, r in enumerate(VALID)]
    rows = load_rows(str(write_jsonl(tmp_path / "graded.jsonl", pairs)))
    assert isinstance(rows, RowList)
    run(tiny_bert, tmp_path / "out", rows=rows.rows, epochs=1, cosine_w=1.0)
    assert math.isfinite(summary(tmp_path / "out")["loss"][0][1])
