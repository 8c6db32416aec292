"""The adapter: the right prompt on the right side, and our vectors through mteb's interface."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.mteb_adapter import MtebEncoder
from benchmarks.mteb_prompts import TaskPrompts
from common.prompts import Template

if TYPE_CHECKING:
    from common.encoder import Encoder

TEXTS = ["A black cat.", "The window is open.", "A black cat.", ""]
ASK = Template("{examples}Task: {instruction} Text: {text}", plain="{text}")
SIDES: dict[str, Any] = {"task_metadata": SimpleNamespace(name="SciFact", type="Retrieval", prompt=None)}


def batches(texts: list[str]) -> list[dict[str, list[str]]]:
    return [{"text": texts[:3]}, {"text": texts[3:]}]


def encode(adapter: MtebEncoder, prompt_type: str | None = None, kind: str = "Retrieval") -> np.ndarray:
    metadata = SimpleNamespace(name="SciFact", type=kind, prompt=None)
    return adapter.encode(
        batches(TEXTS), task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type,
        batch_size=2, show_progress_bar=False,
    )  # fmt: skip


@pytest.fixture
def encoder(make_encoder: Callable[..., Encoder]) -> Encoder:
    return make_encoder("llama", template=ASK, pooling="last", normalize=True)


def test_it_is_an_encoder_for_mteb_and_nothing_else(encoder: Encoder) -> None:
    from mteb.models.models_protocols import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

    adapter = MtebEncoder(encoder, TaskPrompts())
    assert isinstance(adapter, EncoderProtocol)
    assert not isinstance(adapter, CrossEncoderProtocol)
    assert not isinstance(adapter, SearchProtocol)


def test_queries_get_the_instruction_and_documents_do_not(encoder: Encoder) -> None:
    adapter = MtebEncoder(encoder, TaskPrompts({"SciFact": "find"}))
    asked, plain = encoder.encode(TEXTS, instruction="find"), encoder.encode(TEXTS)
    np.testing.assert_allclose(encode(adapter, "query"), asked, atol=1e-6)
    np.testing.assert_allclose(encode(adapter, "document"), plain, atol=1e-6)
    np.testing.assert_allclose(encode(adapter, None), asked, atol=1e-6)
    first = adapter.first["SciFact"]
    assert first["query"]["text"] == "Task: find Text: A black cat."
    assert first["document"]["text"] == "A black cat."
    assert list(first) == ["query", "document", "text"]


def test_documents_may_have_an_instruction_of_their_own_or_that_of_the_queries(encoder: Encoder) -> None:
    own = MtebEncoder(encoder, TaskPrompts({"SciFact": {"query": "find", "document": "hold"}}))
    np.testing.assert_allclose(encode(own, "document"), encoder.encode(TEXTS, instruction="hold"), atol=1e-6)
    both = MtebEncoder(encoder, TaskPrompts({"SciFact": "find"}, both_sides=frozenset({"Reranking"})))
    np.testing.assert_allclose(
        encode(both, "document", "Reranking"), encoder.encode(TEXTS, instruction="find"), atol=1e-6
    )
    np.testing.assert_allclose(encode(both, "document"), encoder.encode(TEXTS), atol=1e-6)


def test_the_two_sides_have_their_own_templates(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", query_template=Template("query: {text}"), document_template=Template("doc: {text}"))
    adapter = MtebEncoder(encoder, TaskPrompts())
    for side in ("query", "document", None):
        encode(adapter, side)
    read = {side: record["text"] for side, record in adapter.first["SciFact"].items()}
    assert read == {"query": "query: A black cat.", "document": "doc: A black cat.", "text": "A black cat."}


def test_a_type_may_keep_the_length_of_its_vectors(encoder: Encoder) -> None:
    adapter = MtebEncoder(encoder, TaskPrompts({"SciFact": "find"}, unnormalized=frozenset({"Classification"})))
    norms = np.linalg.norm(encode(adapter, None, "Classification"), axis=1)
    assert np.abs(norms - 1).min() > 0.1
    np.testing.assert_allclose(np.linalg.norm(encode(adapter, None, "STS"), axis=1), 1, atol=1e-5)
    assert encoder.normalize


def test_duplicates_are_encoded_once_and_tokens_are_counted(encoder: Encoder) -> None:
    adapter = MtebEncoder(encoder, TaskPrompts())
    encode(adapter)
    assert (encoder.usage.texts, encoder.usage.sequences) == (4, 3)
    assert adapter.seconds > 0
    adapter.reset()
    assert (adapter.first, adapter.seconds) == ({}, 0.0)


def test_the_revision_follows_model_and_prompts(encoder: Encoder, make_encoder: Callable[..., Encoder]) -> None:
    metas = [
        MtebEncoder(encoder, TaskPrompts()).mteb_model_meta,
        MtebEncoder(encoder, TaskPrompts({"STS12": "x"})).mteb_model_meta,
        MtebEncoder(make_encoder("llama", pooling="mean"), TaskPrompts()).mteb_model_meta,
    ]
    assert len({meta.revision for meta in metas}) == 3
    assert metas[0].name == "angle/tiny-llama"
