from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from core_texts import PROMPT, SEARCH, TEXTS, distance

from common.attention import set_attention
from common.encoder import Encoder
from common.errors import InputError
from common.io import sha256_of
from common.prompts import Template

KINDS = ("llama", "bert")
POOLING = {"llama": "last", "bert": "mean"}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, make_encoder: Callable[..., Encoder]) -> Encoder:
    return make_encoder(request.param, template=Template(PROMPT), pooling=POOLING[request.param])


# ------------------------------ shapes and types


def test_one_text_gives_a_vector(encoder: Encoder) -> None:
    vector = encoder.encode(TEXTS[0])
    assert isinstance(vector, np.ndarray)
    assert vector.shape == (32,) == (encoder.dim,) == (encoder.get_embedding_dimension(),)
    assert vector.dtype == np.float32
    assert distance(vector, encoder.encode([TEXTS[0]])[0]) < 1e-5


@pytest.mark.parametrize("container", [list, tuple, np.array, iter])
def test_many_texts_give_a_matrix(encoder: Encoder, container: Callable[[list[str]], Any]) -> None:
    vectors = encoder.encode(container(TEXTS))
    assert vectors.shape == (len(TEXTS), 32)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"truncate_dim": 5}, {"normalize_embeddings": True}])
def test_no_texts_give_no_rows(encoder: Encoder, options: dict[str, Any]) -> None:
    vectors = encoder.encode([], **options)
    assert vectors.shape == (0, options.get("truncate_dim", 32))
    assert vectors.dtype == np.float32


def test_tensors_on_demand(encoder: Encoder) -> None:
    tensor = encoder.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    assert not tensor.requires_grad
    assert distance(tensor, encoder.encode(TEXTS)) == 0
    assert encoder.encode(TEXTS[0], convert_to_tensor=True).shape == (32,)
    listed = encoder.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(listed, list)
    assert torch.equal(torch.stack(listed), tensor)


def test_normalised_and_truncated(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS, truncate_dim=8), vectors[:, :8])
    both = encoder.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)  # truncated first, then normalised
    assert distance(both, vectors[:, :8]) < 1e-6
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_a_model_that_normalises_always_does(make_encoder: Callable[..., Encoder]) -> None:
    vectors = make_encoder("bert", normalize=True).encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


# ------------------------------ what is asked for wrongly


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        ({"batch_size": -3}, "batch_size -3"),
        ({"max_batch_tokens": 0}, "max_batch_tokens 0"),
        ({"truncate_dim": 0}, "truncate_dim 0: must be between 1 and 32"),
        ({"truncate_dim": 33}, "truncate_dim 33"),
        ({"instruction": "Represent"}, "no place for an instruction"),
    ],
)
def test_options_that_make_no_sense_are_refused(encoder: Encoder, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        encoder.encode(TEXTS, **options)


@pytest.mark.parametrize("item", [None, b"x", 3, "\ud800"])
def test_a_wrong_item_is_named_before_anything_runs(encoder: Encoder, item: object) -> None:
    before = dataclasses.replace(encoder.usage)
    with pytest.raises(InputError, match=r"texts\[1\]"):
        encoder.encode([TEXTS[0], item])  # type: ignore[list-item]
    assert encoder.usage == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_that_is_not_finite_is_named_by_its_index(make_encoder: Callable[..., Encoder], kind: str) -> None:
    encoder = make_encoder(kind, pooling="mean")
    bad = encoder.tokenize(["rain"])[0][-2 if kind == "bert" else -1]
    with torch.no_grad():
        encoder.backbone.model.get_input_embeddings().weight[bad] = float("nan")  # type: ignore[operator]
    texts = ["of", "rain", "of", "rain"]
    with pytest.raises(InputError, match=r"texts\[1\]: its vector is not finite \(torch.float32\)"):
        encoder.encode(texts)
    assert np.isfinite(encoder.encode(["of"])).all()


# ------------------------------ equal to the plain way, and no work twice


def test_batches_of_any_size_give_the_vectors_of_single_texts(encoder: Encoder) -> None:
    single = np.stack([encoder.encode(text) for text in TEXTS])
    for options in ({}, {"batch_size": 1}, {"batch_size": 3}, {"max_batch_tokens": 60}):
        assert distance(encoder.encode(TEXTS, **options), single) < 1e-5
    assert distance(encoder.encode(TEXTS, devices=["cpu", "cpu"], max_batch_tokens=60), single) < 1e-5


def test_the_vectors_are_those_of_plain_transformers(encoder: Encoder) -> None:
    tokenizer, trunk = encoder.backbone.tokenizer, encoder.backbone.model
    for text, vector in zip(TEXTS, encoder.encode(TEXTS)):
        batch = tokenizer(PROMPT.replace("{text}", text), return_tensors="pt")
        with torch.no_grad():
            states = trunk(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state[0]
        assert distance(vector, states[-1] if encoder.pooling == "last" else states.mean(0)) < 1e-5


def test_duplicates_run_once(encoder: Encoder) -> None:
    texts = [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[1], TEXTS[0]]
    rows: list[int] = []
    hook = encoder.embedder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    before = dataclasses.replace(encoder.usage)
    vectors = encoder.encode(texts)
    hook.remove()
    assert sum(rows) == 3
    assert encoder.usage.texts - before.texts == 6
    assert encoder.usage.sequences - before.sequences == 3
    expected = sum(len(ids) for ids in encoder.tokenize(texts[:2] + texts[3:4]))
    assert encoder.usage.tokens - before.tokens == expected
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_array_equal(vectors[1], vectors[4])
    assert distance(vectors, np.stack([encoder.encode(t) for t in texts])) < 1e-5


def test_texts_that_differ_only_before_the_tokenizer_run_once(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("bert")
    vectors = encoder.encode(["Rain", "rain", "RAIN"])
    assert encoder.usage.sequences == 1
    assert (vectors == vectors[0]).all()


def test_batch_size_limits_the_rows(encoder: Encoder) -> None:
    rows: list[int] = []
    hook = encoder.embedder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    encoder.encode(TEXTS, batch_size=3, max_batch_tokens=4096)
    hook.remove()
    assert rows == [3, 3, 2]


def test_encoding_leaves_the_modes_of_the_model_alone(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("bert")
    assert not encoder.backbone.model.training
    encoder.encode(TEXTS)
    assert not any(m.training for m in encoder.backbone.model.modules())
    encoder.embedder.train()
    first = encoder.encode(TEXTS)  # without dropout, whatever the mode
    assert all(m.training for m in encoder.backbone.model.modules())
    assert encoder.embedder.training
    np.testing.assert_array_equal(first, encoder.encode(TEXTS))


# ------------------------------ long texts


def test_truncation_is_counted_and_said_once(
    make_encoder: Callable[..., Encoder], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make_encoder("llama", template=Template(PROMPT), pooling="last", max_length=40)
    long = [TEXTS[1] * 3, TEXTS[7] * 3]
    with caplog.at_level(logging.WARNING, logger="common.encoder"):
        encoder.encode([*long, "rain"])
        encoder.encode(long[0])
    assert encoder.usage.truncated == 3
    assert [r.getMessage() for r in caplog.records] == ["2 of 3 texts were shortened to max_length 40 (said once)"]
    assert max(map(len, encoder.tokenize(long))) <= 40


def test_the_end_of_the_template_is_read_however_long_the_text(make_encoder: Callable[..., Encoder]) -> None:
    text, options = TEXTS[1] * 5, {"template": Template(PROMPT), "pooling": "last", "max_length": 40}
    encoder = make_encoder("llama", **options)
    end = encoder.backbone.tokenizer(' word:"')["input_ids"]
    assert encoder.tokenize([text])[0][-len(end) :] == end
    quirk = make_encoder("llama", **options, compat=frozenset({"angle:tail-truncation"}))
    assert quirk.tokenize([text])[0] == encoder.backbone.tokenizer(PROMPT.replace("{text}", text))["input_ids"][:40]
    assert distance(quirk.encode(text), encoder.encode(text)) > 1e-2
    np.testing.assert_allclose(quirk.encode("rain"), encoder.encode("rain"), atol=1e-6)


def test_max_length_is_at_most_what_the_model_has_positions_for(make_encoder: Callable[..., Encoder]) -> None:
    assert make_encoder("bert", max_length=4096).max_length == 128
    assert make_encoder("bert", max_length=64).max_length == 64
    assert np.isfinite(make_encoder("bert", max_length=4096).encode(TEXTS[1] * 40)).all()


# ------------------------------ roles and instructions


def test_each_side_of_retrieval_has_its_template(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("bert", query_template=Template(SEARCH), document_template=Template("passage: {text}"))
    plain = make_encoder("bert")
    assert distance(encoder.encode(TEXTS), plain.encode(TEXTS)) < 1e-5
    queries = [SEARCH.replace("{text}", t) for t in TEXTS]
    assert distance(encoder.encode_query(TEXTS), plain.encode(queries)) < 1e-5
    assert distance(encoder.encode_document(TEXTS), plain.encode([f"passage: {t}" for t in TEXTS])) < 1e-5
    assert distance(encoder.encode_query(TEXTS), encoder.encode(TEXTS)) > 1e-2
    # Sides without a template of their own use that of texts.
    np.testing.assert_array_equal(plain.encode_query(TEXTS), plain.encode(TEXTS))
    np.testing.assert_array_equal(plain.encode_document(TEXTS), plain.encode(TEXTS))


def test_an_instruction_is_read(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", template=Template("{instruction}: {text}", "{text}"), pooling="last")
    expected = make_encoder("llama", pooling="last").encode([f"the topic: {t}" for t in TEXTS])
    assert distance(encoder.encode(TEXTS, instruction="the topic"), expected) < 1e-5
    assert distance(encoder.encode(TEXTS), make_encoder("llama", pooling="last").encode(TEXTS)) < 1e-5


def test_each_text_may_have_its_instruction(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", template=Template("{instruction}: {text}", "{text}"))
    texts, said = [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0]], ["one", None, None, "two"]
    single = [encoder.encode(t, instruction=i) for t, i in zip(texts, said)]
    assert distance(encoder.encode(texts, instruction=said), np.stack(single)) < 1e-5
    assert len({v.tobytes() for v in encoder.encode(texts, instruction=said)}) == 4
    with pytest.raises(InputError, match="instruction: 3 for 4 texts"):
        encoder.encode(texts, instruction=said[:3])
    with pytest.raises(InputError, match="instruction: 1 for 0 texts"):
        encoder.encode([], instruction=["one"])


# ------------------------------ what is pooled


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "max", "last"])
@pytest.mark.parametrize("kind", ["bos_llama", "bert"])
def test_only_the_text_is_pooled(make_encoder: Callable[..., Encoder], kind: str, pooling: str) -> None:
    template = Template("{instruction}: {text}; so", "{text}; so")
    part = {p: make_encoder(kind, template=template, pooling=pooling, pooled=p) for p in ("text", "text_and_suffix")}
    trunk, tokenizer = part["text"].backbone.model, part["text"].backbone.tokenizer
    text = "a black cat"
    for instruction in (None, "the topic"):
        full = template.render(text, instruction=instruction).full
        batch = tokenizer(full, return_tensors="pt")
        with torch.no_grad():
            states = trunk(**batch).last_hidden_state[0]
        first = batch.char_to_token(full.index(text))
        for pooled, encoder in part.items():
            last = batch.char_to_token(full.index(text) + len(text) - 1) + 1 if pooled == "text" else len(states)
            chosen = states[first:last]
            weights = torch.arange(1, len(chosen) + 1)[:, None]
            expected = {
                "mean": chosen.mean(0),
                "weighted_mean": (chosen * weights).sum(0) / weights.sum(),
                "max": chosen.amax(0),
                "last": chosen[-1],
            }[pooling]
            vectors = encoder.encode([text, TEXTS[1]], instruction=instruction)
            assert distance(vectors[0], expected) < 1e-5
            assert encoder.info.pooled == pooled


def test_the_same_tokens_with_another_part_pooled_are_another_text(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", template=Template("{instruction} {text}", "{text}"), pooled="text")
    texts, said = ["cat sat on", "sat on"], ["the", "the cat"]
    tokens = encoder.tokens(texts, instruction=said)
    assert tokens.ids[0] == tokens.ids[1] == encoder.tokenize(texts[:1], instruction="the")[0]
    assert tokens.pooled is not None
    assert tokens.pooled[0] != tokens.pooled[1]
    single = [encoder.encode(t, instruction=i) for t, i in zip(texts, said)]
    assert distance(single[0], single[1]) > 1e-3
    assert distance(encoder.encode(texts, instruction=said), np.stack(single)) < 1e-5


def test_an_empty_text_is_the_state_of_all_there_is(make_encoder: Callable[..., Encoder]) -> None:
    for kind in ("llama", "bos_llama", "bert"):
        vectors = make_encoder(kind, pooled="text").encode(["", TEXTS[0]])
        assert distance(vectors[0], make_encoder(kind).encode("")) < 1e-5


def test_an_unknown_part_is_refused_at_once(make_encoder: Callable[..., Encoder]) -> None:
    with pytest.raises(InputError, match="pooled 'suffix' is not one of"):
        make_encoder("llama", pooled="suffix")


# ------------------------------ pooling, comparing, info


@pytest.mark.parametrize(("given", "name"), [("avg", "mean"), ("eos_token", "last"), ("cls_avg", "cls_avg")])
def test_pooling_goes_by_its_one_name(make_encoder: Callable[..., Encoder], given: str, name: str) -> None:
    encoder = make_encoder("bert", pooling=given)
    assert encoder.pooling == encoder.info.pooling == name
    np.testing.assert_array_equal(encoder.encode(TEXTS), make_encoder("bert", pooling=name).encode(TEXTS))


def test_an_unknown_pooling_is_refused_at_once(make_encoder: Callable[..., Encoder]) -> None:
    with pytest.raises(InputError, match="'lasst'; did you mean 'last'"):
        make_encoder("bert", pooling="lasst")


def test_the_pooler_of_bert(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("bert", pooling="pooler")
    batch = encoder.backbone.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        output = encoder.backbone.model(batch["input_ids"], attention_mask=batch["attention_mask"])
    assert distance(encoder.encode(TEXTS[0]), output.pooler_output[0]) < 1e-5


def test_similarity_is_that_of_sentence_transformers(encoder: Encoder) -> None:
    a, b = encoder.encode(TEXTS[:3]), encoder.encode(TEXTS[3:6], convert_to_tensor=True)
    matrix = encoder.similarity(a, b)
    unit_a = a / np.linalg.norm(a, axis=1, keepdims=True)
    unit_b = b.numpy() / np.linalg.norm(b.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(matrix.numpy(), unit_a @ unit_b.T, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b).numpy(), np.diag(matrix.numpy()), atol=1e-6)


def test_info_says_what_decides_the_vectors(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(
        "llama", template=Template(PROMPT), query_template=Template(SEARCH), pooling="last", max_length=77
    )
    info = encoder.info
    assert info.to_dict() == {
        **dataclasses.asdict(info),
        "fingerprint": info.fingerprint,
    }
    assert (info.method, info.template, info.query_template) == ("angle", PROMPT, SEARCH)
    assert (info.pooling, info.attention, info.max_length, info.dtype) == ("last", "causal", 77, "float32")
    assert (info.adapter, info.quantize, info.revision, info.document_template) == ((), None, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.pooling = "mean"  # type: ignore[misc]
    assert encoder.info.fingerprint == info.fingerprint
    # A field that came later does not part the results of encoders that do not use it.
    old = {k: v for k, v in dataclasses.asdict(info).items() if k not in ("pooled", "max_text_length", "merged")}
    assert info.fingerprint == sha256_of(old)[:16]
    for later in ({"pooled": "text"}, {"max_text_length": 9}, {"merged": True}):
        assert dataclasses.replace(info, **later).fingerprint != info.fingerprint
    set_attention(encoder.backbone.model, "bidirectional")
    assert encoder.info.attention == "bidirectional"
    assert encoder.info.fingerprint != info.fingerprint


def test_without_cuda_the_model_stays_where_it_is(
    make_encoder: Callable[..., Encoder], caplog: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    encoder = make_encoder("bert")
    assert encoder.cuda() is encoder
    assert encoder.to("cpu") is encoder
    assert encoder.device.type == "cpu"
    assert "no CUDA device here" in caplog.text
