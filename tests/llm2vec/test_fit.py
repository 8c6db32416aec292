"""LLM2Vec's supervised training as the benchmarks call it, format by format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from training_fixtures import labelled, save_tiny, sentences

from common import registry, training
from common.contrastive_objective import ContrastiveObjective
from common.data import Collator, RowList, RowStream, split_columns
from common.encoder import Encoder
from common.errors import InputError
from common.recipe import TrainConfig
from llm2vec import fit as llm2vec_fit
from llm2vec.encoder import load
from llm2vec.fit import fit, positive_pairs, reader_of
from llm2vec.recipe import SupervisedConfig

TRIPLETS = sentences()[:72]
PAIRS = [{"query": row["query"], "positive": row["positive"]} for row in TRIPLETS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("fit") / "tiny-llama", "llama")


def loaded(model: Path) -> Encoder:
    return load(str(model), dtype="float32", device="cpu")


def given_to_the_trainer(
    monkeypatch: pytest.MonkeyPatch, model: Path, rows: Any, config: TrainConfig
) -> dict[str, Any]:
    """What `fit` hands to the shared trainer."""
    seen: dict[str, Any] = {}

    def watch(encoder: Any, rows: Any, objective: Any, config: Any, **options: Any) -> None:
        seen.update(options, rows=rows, objective=objective)

    monkeypatch.setattr(llm2vec_fit, "fit_shared", watch)
    fit(loaded(model), rows, config)
    return seen


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "training.json").read_text())


@pytest.mark.parametrize("rows", [TRIPLETS, PAIRS, labelled()], ids=["triplets", "pairs", "labelled"])
def test_what_the_registry_calls_trains_every_format(model: Path, tmp_path: Path, rows: list[Any]) -> None:
    """As the benchmarks do it: a plain TrainConfig through the registry."""
    path = registry.get("llm2vec").fit
    assert path is not None
    encoder = loaded(model)
    before = encoder.encode(["the cat"], convert_to_tensor=True)
    config = TrainConfig(
        output_dir=tmp_path, batch_size=24, max_steps=2, learning_rate=1e-2, warmup_steps=0, bf16=False
    )
    result = registry.resolve_attribute(path)(encoder, RowList(rows, "rows"), config)
    assert result is encoder
    assert not torch.allclose(before, encoder.encode(["the cat"], convert_to_tensor=True), atol=1e-4)
    assert summary(tmp_path)["steps"] == 2


def test_the_scale_is_the_released_one_unless_the_recipe_has_another(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowList(TRIPLETS, "rows")
    seen = given_to_the_trainer(monkeypatch, model, rows, TrainConfig(output_dir=tmp_path))
    assert seen["objective"] == ContrastiveObjective(50.0)
    assert seen["single_set_batches"]
    assert seen["stop_after_steps"] is None
    config = SupervisedConfig(output_dir=tmp_path, loss_scale=7.0, stop_after_n_steps=9)
    seen = given_to_the_trainer(monkeypatch, model, rows, config)
    assert seen["objective"] == ContrastiveObjective(7.0)
    assert seen["stop_after_steps"] == 9
    assert seen["rows"] is rows


def test_of_labelled_pairs_those_with_a_high_label_are_positives(caplog: pytest.LogCaptureFixture) -> None:
    labels = [5, 4, 3.9, 0]
    rows = [{"text1": f"a{i}", "text2": f"b{i}", "label": float(x), "dataset": "s"} for i, x in enumerate(labels)]
    found = positive_pairs(RowList(rows, "graded"))
    assert found.rows == [
        {"query": "a0", "positive": "b0", "dataset": "s"}, {"query": "a1", "positive": "b1", "dataset": "s"},
    ]  # fmt: skip
    assert "graded: 2 of 4 labelled pairs, those with 4 or more, are positives" in caplog.text
    assert len(positive_pairs(RowList(rows, "graded"), 3.0)) == 3
    assert len(positive_pairs(RowList(labelled(), "nli"))) == 96  # labels 0 and 1


def test_labelled_pairs_without_a_positive_are_refused() -> None:
    rows = [{"text1": "a", "text2": "b", "label": 0.0}]
    with pytest.raises(InputError, match="rows: no pair has a label of"):
        positive_pairs(RowList(rows, "rows"))
    with pytest.raises(InputError, match="no pair has a label of 2 or more; give --label_threshold"):
        positive_pairs(RowList([{**rows[0], "label": 1.0}], "rows"), 2.0)


def test_a_threshold_of_the_recipe_counts(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text1": "a", "text2": "b", "label": float(i)} for i in range(5)]
    config = SupervisedConfig(output_dir=tmp_path, label_threshold=1.0)
    assert len(given_to_the_trainer(monkeypatch, model, RowList(rows, "r"), config)["rows"]) == 4


def test_labelled_pairs_can_not_be_streamed(model: Path, tmp_path: Path) -> None:
    from datasets import IterableDataset

    def generate() -> Any:
        yield from labelled()

    stream = RowStream(IterableDataset.from_generator(generate), "stream", None, None)
    with pytest.raises(InputError, match="stream: labelled pairs can't be streamed here"):
        fit(loaded(model), stream, TrainConfig(output_dir=tmp_path, streaming=True, max_steps=2))


def test_the_quirk_of_simcse_is_refused(model: Path, tmp_path: Path) -> None:
    config = TrainConfig(output_dir=tmp_path, compat=["llm2vec:simcse-pool-all"])
    with pytest.raises(InputError, match="a quirk of SimCSE training alone"):
        fit(loaded(model), RowList(TRIPLETS, "r"), config)


def test_rows_of_several_sets_come_in_batches_of_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    kept = Collator.__call__

    def watching(self: Any, items: Any) -> Any:
        seen.append({row["dataset"] for _, row in items})
        return kept(self, items)

    monkeypatch.setattr(training.Collator, "__call__", watching)
    rows = RowList([{**row, "dataset": "ab"[i % 2]} for i, row in enumerate(TRIPLETS)], "two")
    config = TrainConfig(output_dir=tmp_path, batch_size=9, epochs=1, warmup_steps=0, bf16=False)
    fit(loaded(model), rows, config)
    assert len(seen) == 8
    assert all(len(sets) == 1 for sets in seen)
    assert set.union(*seen) == {"a", "b"}


def test_instructions_are_read_and_not_pooled(model: Path) -> None:
    """The batch of training is what the encoder makes of the same texts, instruction by instruction."""
    encoder = loaded(model)
    rows = [
        {"query": "the cat", "positive": "le chat dort", "instruction": "Summarize in one word :"},
        {"query": "the dog", "positive": "le chien", "instruction": "sentence :", "document_instruction": "word"},
        {"query": "the king", "positive": "le roi"},
    ]
    batch = Collator(reader_of(encoder))(list(enumerate(rows)))
    encoder.embedder.eval()
    with torch.no_grad():
        vectors = encoder.embedder(batch["input_ids"], batch["attention_mask"], batch["pool_mask"])
    texts = [row[column] for column in ("query", "positive") for row in rows]
    keys = ["instruction"] * 3 + ["document_instruction"] * 3
    for vector, text, row, key in zip(vectors, texts, rows * 2, keys):
        expected = encoder.encode(text, instruction=row.get(key), convert_to_tensor=True)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)
    assert batch["pool_mask"].sum(1).tolist() == [2, 2, 2, 3, 2, 2]
    bare = encoder.encode("the cat", convert_to_tensor=True)
    assert (vectors[0] - bare).abs().max() > 1e-3  # it is read


def test_training_reads_texts_up_to_the_whole_length(model: Path) -> None:
    encoder = load(str(model), dtype="float32", device="cpu", doc_max_length=2)
    assert len(encoder.tokenize(["the cat sleeps"])[0]) == 2
    assert len(reader_of(encoder).tokenize(["the cat sleeps"])[0]) == 3
    assert encoder.max_text_length == 2


@pytest.mark.parametrize("grad_cache_tokens", [None, 40])
def test_instructions_are_left_out_of_the_pooling_in_training(
    model: Path, tmp_path: Path, grad_cache_tokens: int | None
) -> None:
    """The loss of the first step, by hand."""
    rows = [{**row, "instruction": "Summarize in one word :"} for row in TRIPLETS[:8]]
    config = TrainConfig(
        output_dir=tmp_path, batch_size=8, max_steps=1, logging_steps=1, lora_dropout=0.0, bf16=False,
        grad_cache_tokens=grad_cache_tokens,
    )  # fmt: skip
    fit(loaded(model), RowList(rows, "rows"), config)
    encoder = loaded(model)
    batch = Collator(reader_of(encoder))(list(enumerate(rows)))

    def loss(pool_mask: torch.Tensor | None) -> float:
        with torch.no_grad():
            vectors = encoder.embedder(batch["input_ids"], batch["attention_mask"], pool_mask)
        columns, ids = (split_columns(x, batch["columns"]) for x in (vectors, batch["text_ids"]))
        return float(ContrastiveObjective(50)(columns, None, text_ids=ids))

    assert summary(tmp_path)["loss"][0][1] == pytest.approx(loss(batch["pool_mask"]), abs=1e-3)
    assert abs(loss(None) - loss(batch["pool_mask"])) > 0.1
