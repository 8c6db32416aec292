"""SimCSE: two views that dropout sets apart, on what texts, from what start, and what is saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from training_fixtures import save_tiny, sentences

from common.contrastive_objective import ContrastiveObjective
from common.data import Collator, RowList, split_columns
from common.encoder import Encoder
from common.errors import InputError
from common.lora import prepare_for_training
from common.pooling import POOL_EVERYTHING
from llm2vec import simcse
from llm2vec.encoder import load
from llm2vec.fit import reader_of
from llm2vec.recipe import SimcseConfig
from llm2vec.simcse import check_views, fit_simcse, load_simcse, simcse_rows

TEXTS = [row["query"] for row in sentences()]
ROWS = [{"query": text, "positive": text} for text in TEXTS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("simcse") / "tiny-llama", "llama")


def recipe(model: Path, out: Path = Path("out"), **given: Any) -> SimcseConfig:
    settings: dict[str, Any] = {
        "train_name_or_path": "texts", "device": "cpu", "load_kbit": 32, "bf16": False, "batch_size": 16,
        "epochs": 1, "learning_rate": 1e-3, "logging_steps": 1, "save_strategy": "no",
    }  # fmt: skip
    return SimcseConfig(model_name_or_path=str(model), output_dir=out, **{**settings, **given})


def with_lora(encoder: Encoder, dropout: float) -> Encoder:
    """A fresh adapter, moved away from zero, so that its dropout counts."""
    prepare_for_training(encoder, apply_lora=True, r=4, alpha=8, dropout=dropout, target_modules=None)
    with torch.no_grad():
        for name, parameter in encoder.backbone.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return encoder


def views(encoder: Encoder, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views of eight texts, from one batch as in training."""
    batch = Collator(reader_of(encoder))(list(enumerate(ROWS[:8])))
    encoder.embedder.train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        out = encoder.embedder(batch["input_ids"], batch["attention_mask"], batch["pool_mask"], batch["lengths"])
    first, second = split_columns(out, batch["columns"]).values()
    return first, second


# -- dropout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("attention_dropout", "lora_dropout"), [(0.3, 0.0), (0.0, 0.3), (0.3, 0.05)])
def test_views_differ_in_training_alone(
    model: Path, attention: str, attention_dropout: float, lora_dropout: float
) -> None:
    config = recipe(model, attn_implementation=attention, simcse_dropout=attention_dropout, lora_dropout=lora_dropout)
    encoder = with_lora(load_simcse(config), lora_dropout)
    first, second = views(encoder, training=True)
    assert (first - second).abs().amax(dim=1).min() > 1e-4
    first, second = views(encoder, training=False)
    assert torch.equal(first, second)


def test_attention_dropout_is_that_of_the_recipe(model: Path) -> None:
    """The larger, the further apart the views, on average."""

    def distance(dropout: float) -> float:
        encoder = load_simcse(recipe(model, simcse_dropout=dropout))
        first, second = views(encoder, training=True)
        return float((1 - torch.cosine_similarity(first, second)).mean())

    assert distance(0.02) < distance(0.2) < distance(0.7)


def test_equal_views_are_refused(model: Path) -> None:
    encoder = load(str(model), dtype="float32", device="cpu")  # without attention dropout
    with pytest.raises(InputError, match=r"--simcse_dropout 0\.3: LlamaModel has no dropout on attention prob"):
        check_views(encoder, TEXTS[0], recipe(model))
    check_views(encoder, TEXTS[0], recipe(model, simcse_dropout=0.0))  # the adapter's alone
    assert not encoder.embedder.training


def test_whole_weights_do_not_carry_the_dropout_on(model: Path, tmp_path: Path) -> None:
    rows = RowList(ROWS, "texts")
    config = recipe(model, tmp_path, merge=True, max_steps=2)
    fit_simcse(load_simcse(config), rows, config)
    assert json.loads((tmp_path / "config.json").read_text())["attention_dropout"] == 0.0


# -- what is trained on -----------------------------------------------------------------------------


def test_every_line_is_a_text(model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the cat\n\n  the dog \nthe cat\n")
    rows = simcse_rows(recipe(model, train_name_or_path=str(tmp_path / "texts.txt")))
    assert rows.rows == [{"query": t, "positive": t} for t in ("the cat", "the dog", "the cat")]
    limited = simcse_rows(recipe(model, train_name_or_path=str(tmp_path / "texts.txt"), limit=2))
    assert len(limited) == 2


def test_rows_with_texts_and_the_shipped_sentences(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "the cat"}\n{"text": "the dog"}\n')
    rows = simcse_rows(recipe(model, train_name_or_path="rows.jsonl", data_dir=tmp_path))
    assert [row["query"] for row in rows.rows] == ["the cat", "the dog"]
    shipped = simcse_rows(recipe(model, train_name_or_path=None, shipped=True))
    assert len(shipped) > 1000
    assert all(row["query"] == row["positive"] for row in shipped.rows)


def test_without_a_hub_the_default_text_is_said_to_be_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simcse, "hub_reachable", lambda: False)
    with pytest.raises(InputError, match="give --train_name_or_path FILE, or --shipped"):
        simcse_rows(recipe(model, train_name_or_path=None))


# -- how texts are read, and pooled -----------------------------------------------------------------


def batches_seen(
    monkeypatch: pytest.MonkeyPatch, config: SimcseConfig, rows: list[dict[str, str]]
) -> list[dict[str, Any]]:
    """The batches that the trainer gets."""
    seen: list[dict[str, Any]] = []
    kept = Collator.__call__

    def watching(self: Any, items: Any) -> Any:
        seen.append(kept(self, items))
        return seen[-1]

    monkeypatch.setattr(Collator, "__call__", watching)
    fit_simcse(load_simcse(config), RowList(rows, "texts"), config)
    return seen


@pytest.mark.parametrize("chat", [True, False])
def test_the_chat_template_is_that_of_inference_or_none(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    config = recipe(
        llama_folder, tmp_path, chat_template="mistral", simcse_chat_template=chat, batch_size=2, max_steps=1
    )
    rows = [{"query": t, "positive": t} for t in ("a black cat", "the rain")]
    batch = batches_seen(monkeypatch, config, rows)[0]
    tokenizer = load(str(llama_folder)).backbone.tokenizer
    found = [tokenizer.decode(ids[:n]) for ids, n in zip(batch["input_ids"], batch["lengths"])]
    expected = {f"[INST] {text} [/INST]" if chat else text for text in ("a black cat", "the rain")}
    assert set(found) == expected
    # Either way the saved model reads texts as at inference.
    assert Encoder.from_pretrained(tmp_path).info.template == "[INST] {instruction} {text} [/INST]"


GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "llm2vec"


@pytest.mark.parametrize("everything", [True, False])
def test_pooling_over_padding_only_under_its_switch(
    everything: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that training sees, on a model whose recorded vectors are the original's (dropout off)."""
    texts = json.loads((GOLDEN / "simcse_texts.json").read_text())
    config = recipe(
        GOLDEN / "tiny_llama", tmp_path, compat=[POOL_EVERYTHING] if everything else [], batch_size=len(texts),
        max_steps=1, simcse_chat_template=False,
    )  # fmt: skip
    rows = [{"query": text, "positive": text} for text in texts]
    batch = batches_seen(monkeypatch, config, rows)[0]
    encoder = load(str(GOLDEN / "tiny_llama"), dtype="float32", device="cpu", compat=config.compat)
    encoder.embedder.train()
    with torch.no_grad():
        arguments = (batch["input_ids"], batch["attention_mask"], batch["pool_mask"], batch["lengths"])
        first, second = split_columns(encoder.embedder(*arguments), batch["columns"]).values()
    torch.testing.assert_close(first, second)
    with np.load(GOLDEN / "simcse_noseparator.npz") as golden:
        ids = golden["input_ids"].tolist()
        original = torch.tensor(golden["llama/mean_original"])
    order = [texts.index(text) for text in texts]
    sequences = [row[-n:] if everything else row[:n] for row, n in zip(
        batch["input_ids"].tolist(), batch["attention_mask"].sum(1).tolist())]  # fmt: skip
    where = [next(i for i in order if ids[i][-len(s) :] == s) for s in sequences[: len(texts)]]
    if everything:
        assert batch["lengths"] is None
        torch.testing.assert_close(first, original[where], atol=2e-5, rtol=0)
        # never in encoding
        plain = load(str(GOLDEN / "tiny_llama"), dtype="float32", device="cpu").encode(texts)
        np.testing.assert_allclose(encoder.encode(texts), plain, atol=1e-6)
    else:
        expected = encoder.encode([texts[i] for i in where], convert_to_tensor=True)  # as at inference, BOS left out
        torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)
        assert (first - original[where]).abs().max() > 0.1


@pytest.mark.parametrize("given", [{"pooling_mode": "weighted_mean"}, {"grad_cache_tokens": 64}])
def test_what_the_switch_excludes(model: Path, given: dict[str, Any]) -> None:
    config = recipe(model, compat=[POOL_EVERYTHING], **given)
    with pytest.raises(InputError, match="goes with --pooling_mode mean, and not with --grad_cache_tokens"):
        fit_simcse(load_simcse(config), RowList(ROWS, "texts"), config)


def test_equal_texts_are_no_negatives(model: Path) -> None:
    """A batch of one text again and again has nothing to tell apart."""
    encoder = load(str(model), dtype="float32", device="cpu")
    batch = Collator(reader_of(encoder))([(i, ROWS[0]) for i in range(4)])
    vectors = torch.randn(8, 6, dtype=torch.float64)
    columns, ids = (split_columns(x, batch["columns"]) for x in (vectors, batch["text_ids"]))
    assert ContrastiveObjective(20)(columns, None, text_ids=ids) == 0
    assert ContrastiveObjective(20)(columns, None) > 0


# -- training ---------------------------------------------------------------------------------------


def test_views_come_together_and_texts_apart(model: Path, tmp_path: Path) -> None:
    config = recipe(model, tmp_path, epochs=6, batch_size=32, learning_rate=3e-3, lora_r=8)
    encoder = load_simcse(config)

    def loss() -> float:
        losses = []
        for seed in range(5):
            first, second = views(encoder, training=True)
            torch.manual_seed(seed)
            losses.append(float(ContrastiveObjective(20)({"query": first, "positive": second}, None)))
        encoder.embedder.eval()
        return float(np.mean(losses))

    before = loss()
    fit_simcse(encoder, RowList(ROWS, "texts"), config)
    assert loss() < 0.8 * before
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["steps"] == 18
    assert summary["recipe"]["simcse_dropout"] == 0.3


@pytest.mark.parametrize("compat", [[], [POOL_EVERYTHING]])
def test_the_saved_step_has_the_vectors_of_the_trained_one(
    llama_folder: Path, lora_folders: dict[str, Path], tmp_path: Path, compat: list[str]
) -> None:
    """base -> MNTP adapter merged -> fresh adapter, through a training."""
    texts = ["The cat sat on the mat.", "rain", "Two men are playing chess in the park."]
    config = recipe(
        llama_folder, tmp_path / "out", peft_model_name_or_path=[str(lora_folders["headed"])], max_steps=3,
        learning_rate=1e-2, compat=compat,
    )  # fmt: skip
    encoder = load_simcse(config)
    before = encoder.encode(texts)
    fit_simcse(encoder, RowList(ROWS, "texts"), config)
    trained = encoder.encode(texts)
    assert np.abs(trained - before).max() > 1e-3
    (tmp_path / "out").rename(tmp_path / "moved")
    again = Encoder.from_pretrained(tmp_path / "moved", dtype="float32", device="cpu")
    np.testing.assert_allclose(again.encode(texts), trained, atol=1e-5)
    assert sorted(again.compat) == compat
    assert again.info.attention == "bidirectional"
    assert len(again.backbone.adapters) == 2
