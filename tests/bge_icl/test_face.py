"""bge_icl/face.py: the released interface, and what is mended in it."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bge_icl
from bge_icl.encoder import load
from bge_icl.face import FlagICLModel
from common.errors import InputError

TASK = "Given a web search query, retrieve relevant passages that answer the query."
QUERIES = ["how much protein should a female eat", "summit define", "causes of back pain"]
EXAMPLES = [
    {"instruct": TASK, "query": "what is rain", "response": "Water that falls from clouds."},
    {"query": "summit define", "response": "The highest point of a mountain."},
]


@pytest.fixture
def flag(golden: Any) -> FlagICLModel:
    return FlagICLModel(str(golden.model), query_instruction_for_retrieval=TASK, devices="cpu")


def runs(flag: FlagICLModel) -> list[tuple[int, ...]]:
    """The shapes of what the trunk is given from now on."""
    shapes: list[tuple[int, ...]] = []
    flag.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def test_the_package_gives_the_class() -> None:
    assert bge_icl.FlagICLModel is FlagICLModel
    with pytest.raises(AttributeError, match="it has FlagICLModel"):
        _ = bge_icl.FlagModel


def test_the_released_arguments_in_their_order() -> None:
    released = [
        *("self", "model_name_or_path", "normalize_embeddings", "use_fp16", "use_bf16"),
        *("query_instruction_for_retrieval", "query_instruction_format", "suffix", "devices", "examples_for_task"),
        *("examples_instruction_format", "trust_remote_code", "cache_dir", "batch_size", "query_max_length"),
        *("passage_max_length", "convert_to_numpy", "truncate_dim"),
    ]
    parameters = inspect.signature(FlagICLModel.__init__).parameters
    assert list(parameters)[: len(released)] == released
    assert (parameters["batch_size"].default, parameters["query_max_length"].default) == (256, 512)


def test_examples_can_be_cleared(flag: FlagICLModel) -> None:
    zero_shot = flag.encode_queries(QUERIES)
    flag.set_examples(EXAMPLES)
    few_shot = flag.encode_queries(QUERIES)
    assert np.abs(few_shot - zero_shot).max() > 1e-3
    for cleared in (None, []):
        flag.set_examples(EXAMPLES)
        flag.set_examples(cleared)
        assert flag.prefix == ""
        np.testing.assert_allclose(flag.encode_queries(QUERIES), zero_shot, atol=1e-5)


def test_examples_follow_the_instruction(flag: FlagICLModel) -> None:
    flag.set_examples(EXAMPLES)
    before = flag.encode_queries(QUERIES)
    flag.query_instruction_for_retrieval = "Find the answer."
    assert flag.prefix.count("Find the answer.") == 1
    assert flag.prefix.count(TASK) == 1
    assert np.abs(flag.encode_queries(QUERIES) - before).max() > 1e-3


def test_wrong_examples_change_nothing(flag: FlagICLModel) -> None:
    flag.set_examples(EXAMPLES)
    prefix = flag.prefix
    with pytest.raises(InputError, match=r"examples_for_task\[1\]: needs query, response"):
        flag.set_examples([EXAMPLES[0], {"query": "a"}])
    assert flag.prefix == prefix
    bare = FlagICLModel(flag.encoder, devices="cpu")
    with pytest.raises(InputError, match=r"examples\[1\]: has no instruct"):
        bare.set_examples(EXAMPLES)
    assert bare.prefix == ""


def test_passages_and_bare_texts_get_no_examples(flag: FlagICLModel) -> None:
    zero_shot = flag.encode_corpus(QUERIES)
    flag.set_examples(EXAMPLES)
    np.testing.assert_allclose(flag.encode_corpus(QUERIES), zero_shot, atol=1e-5)
    np.testing.assert_allclose(flag.encode(QUERIES), zero_shot, atol=1e-5)


def test_an_instruction_for_passages(golden: Any, flag: FlagICLModel) -> None:
    other = FlagICLModel(str(golden.model), passage_instruction_for_retrieval="passage: ", devices="cpu")
    want = flag.encode(["passage: " + text for text in QUERIES])
    np.testing.assert_allclose(other.encode_corpus(QUERIES), want, atol=1e-5)
    np.testing.assert_allclose(other.encode(QUERIES), flag.encode(QUERIES), atol=1e-5)


def test_nothing_in_nothing_out(flag: FlagICLModel) -> None:
    for encode in (flag.encode_queries, flag.encode_corpus, flag.encode):
        vectors = encode([])
        assert vectors.shape == (0, 32)
        assert vectors.dtype == np.float32
    tensor = flag.encode_queries([], convert_to_numpy=False)
    assert isinstance(tensor, torch.Tensor)


def test_one_text_one_vector(flag: FlagICLModel) -> None:
    for encode in (flag.encode_queries, flag.encode_corpus, flag.encode):
        assert encode(QUERIES[0]).shape == (32,)
        np.testing.assert_allclose(encode(QUERIES[0]), encode(QUERIES)[0], atol=1e-5)


def test_one_query_costs_one_forward(flag: FlagICLModel) -> None:
    flag.set_examples(EXAMPLES)
    shapes = runs(flag)
    flag.encode_queries(QUERIES[:1])
    assert len(shapes) == 1
    assert shapes[0] == (1, len(flag.query_ids(QUERIES[:1])[0]))


def test_the_examples_are_run_once_for_all_queries_and_calls(flag: FlagICLModel) -> None:
    many = [f"{query} {i}" for i in range(20) for query in QUERIES]
    want = flag.encode_queries(many, batch_size=1)
    flag.set_examples(EXAMPLES)
    shapes = runs(flag)
    vectors = flag.encode_queries(many, batch_size=8)
    ids = flag.query_ids(many)
    assert shapes[0][0] == 1
    assert sum(a * b for a, b in shapes) < sum(map(len, ids)) / 4
    shapes.clear()
    again = flag.encode_queries("summit define, please")
    assert len(shapes) == 1
    assert shapes[0][1] < 30 < len(flag.query_ids("summit define, please")[0])
    fresh = FlagICLModel(flag.encoder, query_instruction_for_retrieval=TASK, devices="cpu", examples_for_task=EXAMPLES)
    np.testing.assert_allclose(fresh.encode_queries("summit define, please"), again, atol=1e-5)
    alone = np.stack([fresh.encode_queries(query) for query in many[:3]])
    np.testing.assert_allclose(vectors[:3], alone, atol=1e-5)
    assert np.abs(vectors - want).max() > 1e-3


def test_a_short_limit_says_what_it_cuts(flag: FlagICLModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        vectors = flag.encode_queries(QUERIES, max_length=8)
        flag.encode_queries(QUERIES, max_length=8)
    assert len(caplog.messages) == 2
    assert "3 of 3 queries were shortened to max_length 8, which counts the instruction" in caplog.messages[0]
    assert "of these queries nothing is left; raise max_length" in caplog.messages[1]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)  # as released: the query is gone
    assert flag.encoder.usage.truncated == 6
    with pytest.raises(InputError, match="max_length 4: BOS, suffix and EOS alone have 4 tokens"):
        flag.encode_queries(QUERIES, max_length=4)
    with pytest.raises(InputError, match="max_length 2: BOS and EOS alone"):
        flag.encode_corpus(QUERIES, max_length=2)


def test_examples_are_never_cut_but_may_be_too_long(golden: Any, llama_folder: Path) -> None:
    flag = FlagICLModel(str(golden.model), query_instruction_for_retrieval=TASK, devices="cpu")
    flag.set_examples(EXAMPLES * 8)
    ids = flag.query_ids("word " * 400, 64)[0]
    assert len(flag.tokenizer(flag.prefix, add_special_tokens=False)["input_ids"]) + 64 == len(ids)
    small = FlagICLModel(str(llama_folder), query_instruction_for_retrieval=TASK, devices="cpu")
    small.set_examples(EXAMPLES * 8)
    with pytest.raises(InputError, match="examples included; the model reads 256"):
        small.encode_queries(QUERIES)


@pytest.mark.parametrize("kind", ["llama_folder", "bos_llama_folder"])
def test_bos_and_eos_whatever_the_tokenizer(kind: str, request: pytest.FixtureRequest) -> None:
    flag = FlagICLModel(str(request.getfixturevalue(kind)), devices="cpu", query_instruction_for_retrieval=TASK)
    for ids in (*flag.query_ids([*QUERIES, ""], 100), *flag.passage_ids([*QUERIES, "", "rain " * 99], 20)):
        assert ids[0] == flag.tokenizer.bos_token_id
        assert ids[-1] == flag.tokenizer.eos_token_id
        assert not {flag.tokenizer.eos_token_id, flag.tokenizer.bos_token_id} & set(ids[1:-1])


def test_precision_and_devices(golden: Any) -> None:
    on_cpu = FlagICLModel(str(golden.model), devices=["cpu"])
    assert (on_cpu.encoder.backbone.dtype, on_cpu.devices) == (torch.float32, ["cpu"])
    half = FlagICLModel(str(golden.model), use_bf16=True, devices="cpu")
    assert half.encoder.backbone.dtype == torch.bfloat16
    two = FlagICLModel(str(golden.model), devices=["cpu", "cpu"])
    many = [f"query {i}" for i in range(9)]
    np.testing.assert_allclose(two.encode_queries(many, batch_size=4), on_cpu.encode_queries(many), atol=1e-5)
    with pytest.raises(InputError, match="devices: an empty list"):
        FlagICLModel(str(golden.model), devices=[])


def test_an_encoder_in_memory(golden: Any) -> None:
    encoder = load(str(golden.model), device="cpu", dtype="float32")
    flag = FlagICLModel(encoder, query_instruction_for_retrieval=TASK, devices="cpu")
    assert flag.model is encoder.backbone.model
    np.testing.assert_allclose(flag.encode_queries(QUERIES), encoder.encode_query(QUERIES, instruction=TASK), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"example_for_task": []}, "example_for_task is not known; did you mean examples_for_task"),
        ({"pooling_method": "cls"}, "pools the last token"),
        ({"cache_dir": "x"}, "HF_HOME"),
        ({"query_instruction_format": "{}"}, r"needs \{\} 2 times"),
        ({"examples_instruction_format": "{}{}"}, r"needs \{\} 3 times"),
    ],
)
def test_wrong_arguments(golden: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FlagICLModel(str(golden.model), devices="cpu", **options)


def test_wrong_calls(flag: FlagICLModel) -> None:
    with pytest.raises(InputError, match="max_len is not known; did you mean max_length"):
        flag.encode_queries(QUERIES, max_len=3)
    with pytest.raises(InputError, match=r"texts\[1\]: expected str, got None"):
        flag.encode_queries(["a", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="batch_size 0"):
        flag.encode_corpus(QUERIES, batch_size=0)
    flag.truncate_dim = 33
    with pytest.raises(InputError, match="truncate_dim 33"):
        flag.encode_corpus(QUERIES)


def test_cut_then_normalised(flag: FlagICLModel) -> None:
    whole = flag.encode(QUERIES)
    flag.truncate_dim = 8
    np.testing.assert_allclose(np.linalg.norm(flag.encode(QUERIES), axis=1), 1, atol=1e-5)
    flag.normalize_embeddings = False
    raw = flag.encode(QUERIES)
    assert raw.shape == (3, 8)
    np.testing.assert_allclose(
        raw / np.linalg.norm(raw, axis=1, keepdims=True),
        whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True),
        atol=1e-5,
    )
