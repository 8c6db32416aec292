"""SimCSE as a baseline: how it reads texts, what it trains on, and that it learns, by the registry alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "common"))
from training_fixtures import labelled, save_tiny, sentences

from benchmarks.baselines.simcse import TEMPERATURE, fit, fit_unsupervised, texts_of
from common import registry
from common.data import RowList
from common.encoder import Encoder
from common.errors import InputError
from common.losses import contrastive_loss
from common.recipe import TrainConfig

CPU = {"device": "cpu", "dtype": "float32"}
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    parent = tmp_path_factory.mktemp("simcse")
    return {kind: save_tiny(parent / f"tiny-{kind}", kind) for kind in ("llama", "bert")}


def recipe(folder: Path, **given: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "batch_size": 16, "max_steps": 2, "learning_rate": 1e-3, "warmup_steps": 0.0, "save_strategy": "no",
        "save_minutes": None, "bf16": False, "logging_steps": 1,
    }  # fmt: skip
    return TrainConfig(output_dir=folder, **{**settings, **given})


def train(method: str, model: Path, rows: list[dict[str, Any]], config: TrainConfig) -> Encoder:
    """By the registry, as the harness does."""
    encoder = registry.load(method, str(model), **CPU)
    done = registry.resolve_attribute(str(registry.get(method).fit))(encoder, RowList(rows, "rows"), config)
    assert done is encoder
    return encoder


def accuracy(encoder: Encoder) -> float:
    """How often a query is nearer to its positive than to its negative; chance is 0.5."""
    query, positive, negative = (
        encoder.encode([row[name] for row in sentences()], normalize_embeddings=True)
        for name in ("query", "positive", "negative")
    )
    return float(((query * positive).sum(1) > (query * negative).sum(1)).mean())


# ------------------------------ reading


@pytest.mark.parametrize("method", ["simcse", "simcse-unsupervised"])
def test_texts_are_read_without_a_prompt(models: Folders, method: str) -> None:
    for kind, pooling, attention in (("llama", "mean", "causal"), ("bert", "cls", "bidirectional")):
        info = registry.load(method, str(models[kind]), **CPU).info
        assert (info.method, info.template, info.pooling) == (method, "{text}", pooling)
        if kind == "llama":
            assert info.attention == attention
    other = registry.load(method, str(models["llama"]), template='"{text}":', pooling="last", max_length=20, **CPU)
    assert (other.info.template, other.info.pooling, other.info.max_length) == ('"{text}":', "last", 20)


def test_both_read_alike(models: Folders) -> None:
    texts = [row["query"] for row in sentences()[:5]]
    one, other = (registry.load(m, str(models["bert"]), **CPU).encode(texts) for m in ("simcse", "simcse-unsupervised"))
    np.testing.assert_array_equal(one, other)


# ------------------------------ supervised


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_first_loss_is_the_papers(models: Folders, tmp_path: Path, kind: str) -> None:
    """Of the whole first batch, at a temperature of 0.05, all positives and hard negatives as candidates."""
    rows = sentences()[:16]
    encoder = registry.load("simcse", str(models[kind]), **CPU)
    columns = {n: encoder.encode([r[n] for r in rows], convert_to_tensor=True) for n in rows[0]}
    units = {n: torch.nn.functional.normalize(v, dim=1) for n, v in columns.items()}
    scores = units["query"] @ torch.cat([units["positive"], units["negative"]]).T / 0.05
    want = float(torch.nn.functional.cross_entropy(scores, torch.arange(16)))
    assert want == pytest.approx(float(contrastive_loss(*columns.values(), scale=1 / TEMPERATURE)), rel=1e-5)
    for module in encoder.backbone.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = recipe(tmp_path / "out", max_steps=1, lora_dropout=0.0, filter_duplicate=False)
    fit(encoder, RowList(rows, "rows"), config)
    assert first_loss(tmp_path / "out") == pytest.approx(want, rel=2e-3)


def first_loss(folder: Path) -> float:
    from common.io import read_json

    return float(read_json(folder / "training.json")["loss"][0][1])


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_it_learns_and_is_saved(models: Folders, tmp_path: Path, kind: str) -> None:
    config = recipe(tmp_path / "out", max_steps=60, learning_rate=5e-3)
    before = accuracy(registry.load("simcse", str(models[kind]), **CPU))
    encoder = train("simcse", models[kind], sentences(), config)
    assert accuracy(encoder) > max(0.85, before + 0.2)
    again = registry.load("simcse", str(tmp_path / "out"), **CPU)
    texts = [row["query"] for row in sentences()[:5]]
    np.testing.assert_allclose(again.encode(texts), encoder.encode(texts), atol=1e-5)
    assert again.info.pooling == encoder.info.pooling


def test_labelled_pairs_are_positives_where_the_label_is_high(models: Folders, tmp_path: Path) -> None:
    train("simcse", models["bert"], labelled(), recipe(tmp_path / "a"))
    train("simcse", models["bert"], [r for r in labelled() if r["label"]], recipe(tmp_path / "b"))
    assert first_loss(tmp_path / "a") == first_loss(tmp_path / "b")


# ------------------------------ unsupervised


def test_the_texts_of_rows() -> None:
    rows = RowList([{"query": "a", "positive": ["b", "c"], "negative": "a"}, {"query": "c", "positive": "d"}], "rows")
    assert texts_of(RowList(rows.rows[:1], "rows")) == ["a", "b", "c"]
    assert texts_of(RowList([{"text1": "a", "text2": "b", "label": 1.0}], "rows")) == ["a", "b"]


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_unsupervised_tells_texts_apart(models: Folders, tmp_path: Path, kind: str) -> None:
    """What went together does not count: rows with other partners train the same."""
    texts = [row["query"] for row in sentences()]
    pairs = [{"query": text, "positive": text} for text in texts]

    def spread(encoder: Encoder) -> float:
        vectors = encoder.encode(texts, normalize_embeddings=True)
        return float(1 - (vectors @ vectors.T)[np.triu_indices(len(texts), 1)].mean())

    before = spread(registry.load("simcse-unsupervised", str(models[kind]), **CPU))
    config = recipe(tmp_path / "out", max_steps=30, learning_rate=2e-3)
    encoder = train("simcse-unsupervised", models[kind], pairs, config)
    assert spread(encoder) > 1.3 * before
    assert first_loss(tmp_path / "out") > 0.01  # the views differ, and so do the texts


def test_partners_do_not_count(models: Folders, tmp_path: Path) -> None:
    texts = [row["query"] for row in sentences()]
    rows = [{"query": a, "positive": b} for a, b in zip(texts[::2], texts[1::2])]
    train("simcse-unsupervised", models["bert"], rows, recipe(tmp_path / "a"))
    alone = [{"query": t, "positive": t} for t in texts]
    train("simcse-unsupervised", models["bert"], alone, recipe(tmp_path / "b"))
    assert first_loss(tmp_path / "a") == first_loss(tmp_path / "b")


def test_the_dropout_of_a_decoder_is_gone_afterwards(models: Folders, tmp_path: Path) -> None:
    encoder = train("simcse-unsupervised", models["llama"], sentences(), recipe(tmp_path / "out"))
    shares = {m.attention_dropout for m in encoder.backbone.model.modules() if hasattr(m, "attention_dropout")}
    assert shares == {0.0}


def test_what_is_refused(models: Folders, tmp_path: Path, make_encoder: Callable[..., Encoder]) -> None:
    encoder = registry.load("simcse-unsupervised", str(models["bert"]), **CPU)
    for module in encoder.backbone.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with pytest.raises(InputError, match="BertModel has no dropout that sets two views of a text apart"):
        fit_unsupervised(encoder, RowList(sentences(), "rows"), recipe(tmp_path))
