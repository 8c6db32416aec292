"""Token ids and vectors are those of FlagEmbedding 1.4.2, with 0, 1 and 3 examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bge_icl.encoder import load
from bge_icl.examples import check_examples, examples_text
from bge_icl.face import FlagICLModel
from common.pooling import pool

TOLERANCE = 2e-5


def model(golden: Any, examples: int = 0, **options: Any) -> FlagICLModel:
    given = {"query_instruction_for_retrieval": golden.instruction, "devices": "cpu", **options}
    return FlagICLModel(str(golden.model), examples_for_task=golden.examples[:examples] or None, **given)


@pytest.mark.parametrize("examples", [0, 1, 3])
@pytest.mark.parametrize("limit", [512, 64])
def test_queries(golden: Any, examples: int, limit: int) -> None:
    name = f"q_ex{examples}" + ("" if limit == 512 else "_max64")
    flag = model(golden, examples)
    assert flag.prefix == golden.inputs["prefixes"][f"prefix_ex{examples}"]
    assert flag.query_ids(golden.texts, limit) == golden.ids(name)
    vectors = flag.encode_queries(golden.texts, max_length=limit)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, golden.vectors[name], atol=TOLERANCE)


@pytest.mark.parametrize("limit", [512, 64])
def test_passages(golden: Any, limit: int) -> None:
    name = "corpus" + ("" if limit == 512 else "_max64")
    flag = model(golden, 3)
    assert flag.passage_ids(golden.texts, limit) == golden.ids(name)
    np.testing.assert_allclose(flag.encode_corpus(golden.texts, max_length=limit), golden.vectors[name], atol=TOLERANCE)


def test_the_limits_of_the_model_are_those_of_a_call(golden: Any) -> None:
    flag = model(golden, 1, query_max_length=64, passage_max_length=64)
    np.testing.assert_allclose(flag.encode_queries(golden.texts), golden.vectors["q_ex1_max64"], atol=TOLERANCE)
    np.testing.assert_allclose(flag.encode_corpus(golden.texts), golden.vectors["corpus_max64"], atol=TOLERANCE)


def test_variants(golden: Any) -> None:
    texts, vectors = golden.texts, golden.vectors
    assert_close = lambda got, name: np.testing.assert_allclose(got, vectors[name], atol=TOLERANCE)  # noqa: E731
    assert_close(model(golden, normalize_embeddings=False).encode_corpus(texts), "corpus_nonorm")
    assert_close(model(golden, truncate_dim=16).encode_corpus(texts), "corpus_dim16")
    assert_close(model(golden).encode_queries(texts[0]), "q_single_str")
    assert_close(model(golden, 3).encode_queries(texts, batch_size=1), "q_bs1")
    assert_close(model(golden, query_instruction_for_retrieval=None).encode_queries(texts), "q_noinstr")
    assert_close(model(golden, 3).encode(texts), "encode_ex3")
    tensor = model(golden, convert_to_numpy=False).encode_corpus(texts)
    assert isinstance(tensor, torch.Tensor)
    assert_close(tensor.numpy(), "corpus")


def test_the_encoder_gives_the_same_vectors(golden: Any) -> None:
    """The one Encoder behind the face, through its own template; without what no limit cuts."""
    encoder = load(str(golden.model), device="cpu", dtype="float32")
    short = [i for i, ids in enumerate(golden.ids("q_ex0")) if len(ids) < 512]
    assert len(short) == 20
    texts = [golden.texts[i] for i in short]
    for count in (0, 1, 3):
        examples = examples_text(check_examples(golden.examples[:count]), golden.instruction)
        options: dict[str, Any] = {"instruction": golden.instruction, "examples": examples}
        want = [golden.ids(f"q_ex{count}")[i] for i in short]
        assert encoder.tokens(texts, "query", **options).ids == want
        for vectors in (encoder.encode_query(texts, **options), encoder.encode(texts, **options)):
            np.testing.assert_allclose(vectors, golden.vectors[f"q_ex{count}"][short], atol=TOLERANCE)
    np.testing.assert_allclose(encoder.encode_document(texts), golden.vectors["corpus"][short], atol=TOLERANCE)


def test_the_last_token_is_pooled_on_either_side(golden: Any) -> None:
    arrays = np.load(golden.model.parent / "pooling.npz")
    hidden = torch.from_numpy(arrays["pool_hidden"])
    for side in ("left", "right"):
        vectors = pool(hidden, torch.from_numpy(arrays[f"pool_{side}_mask"]), "last")
        np.testing.assert_array_equal(vectors.numpy(), arrays[f"pool_{side}_out"])
