"""common/many_instructions.py: one pass per text for all instructions gives what one pass for each gives."""

from __future__ import annotations

import attention_families as families
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from common import many_instructions
from common.attention import set_attention
from common.backbone import Backbone
from common.encoder import Encoder
from common.errors import InputError
from common.many_instructions import encode_many, why_apart
from common.model_names import ResolvedModel
from common.prompts import Template

TEMPLATE = Template("Text: {text}\nTask: {instruction}\nAnswer:")
TEXTS = [
    "A black cat is sitting near the window, and the rain changes quickly.",
    "",
    "Two men are playing chess.",
    "Interest rates were raised by a quarter of a point in the mountains. " * 2,
    "Two men are playing chess.",
]
INSTRUCTIONS = ["What is it about?", "What", "", "What is it about?", "How does the author feel about the weather?"]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def encoder(make_encoder):
    return make_encoder("bos_llama", template=TEMPLATE, pooling="last")


def plain(encoder, texts=TEXTS, instructions=INSTRUCTIONS):
    return np.stack([encoder.encode(texts, instruction=i, normalize_embeddings=True) for i in instructions])


def family_encoder(family, attention, llama_folder, **options) -> Encoder:
    """A random model of a family, with the tokenizer of `llama_folder`."""
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    changes = {"sliding_window": 128} if families.FAMILIES[family].get("sliding_window") else {}
    model = families.tiny_model(
        family, attention, vocab_size=len(tokenizer), max_position_embeddings=256, **{**changes, **options}
    )
    source = ResolvedModel(family, family, family, True)
    return Encoder(
        Backbone(model, tokenizer, source, True), method="inbedder", template=TEMPLATE, pooling="last", max_length=128
    )


@pytest.mark.parametrize(("family", "attention"), families.CASES)
def test_equal_to_a_pass_for_each(family, attention, llama_folder):
    encoder = family_encoder(family, attention, llama_folder)
    assert why_apart(encoder) is None
    shared = encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True)
    assert (shared.shape, shared.dtype) == ((5, 5, encoder.dim), np.float32)
    np.testing.assert_allclose(shared, plain(encoder), **CLOSE)
    # The instructions do make a difference, so that equality says something.
    assert np.abs(shared[0] - shared[4]).max() > 1e-2


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 2}, {"max_batch_tokens": 150}])
def test_batches_do_not_matter(options, encoder):
    whole = encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(
        encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True, **options), whole, **CLOSE
    )


@pytest.mark.parametrize("most", [1, 40])
def test_instructions_in_groups_and_texts_in_blocks(most, encoder, monkeypatch):
    whole = encode_many(encoder, TEXTS, INSTRUCTIONS)
    monkeypatch.setattr(many_instructions, "REST_TOKENS", most)
    monkeypatch.setattr(many_instructions, "TEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(encode_many(encoder, TEXTS, INSTRUCTIONS), whole, atol=1e-4)


def test_overlong_texts_are_cut_as_in_a_pass_for_each(encoder):
    encoder.max_length = 60
    shared = encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(shared, plain(encoder), **CLOSE)
    assert encoder.usage.truncated


def test_prompts_without_a_common_start(make_encoder):
    """Cut at their start (a released quirk), or with the instruction in front, sequences share BOS at most."""
    ahead = Template("Task: {instruction}\nText: {text}\nAnswer:")
    cut = {"template": TEMPLATE, "max_length": 30, "compat": frozenset({"inbedder:left-truncation"})}
    for options in ({"template": ahead}, cut):
        for kind in ("llama", "bos_llama"):
            encoder = make_encoder(kind, pooling="last", **options)
            shared = encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True)
            np.testing.assert_allclose(shared, plain(encoder), **CLOSE)


def test_adapters_and_bf16(make_encoder, lora_folders):
    encoder = make_encoder(
        "llama", backbone={"adapter": str(lora_folders["headed"])}, template=TEMPLATE, pooling="last"
    )
    shared = encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(shared, plain(encoder), **CLOSE)
    half = make_encoder("llama", backbone={"dtype": "bfloat16"}, template=TEMPLATE, pooling="last")
    cosine = (encode_many(half, TEXTS, INSTRUCTIONS, normalize_embeddings=True) * plain(half)).sum(axis=2)
    assert cosine.min() > 0.99


def test_each_text_runs_once(encoder):
    """The tokens that go through the model: the text's once, and what the instructions add."""
    texts, instructions = [TEXTS[0], TEXTS[2], TEXTS[3]], ["Who?", "What is it about?", "How?", "Where was it?"]
    start = TEMPLATE.pattern.partition("{instruction}")[0]
    tokenizer = encoder.backbone.tokenizer
    prefix = [len(tokenizer(start.replace("{text}", text))["input_ids"]) for text in texts]
    whole = [[len(ids) for ids in encoder.tokenize(texts, instruction=i)] for i in instructions]
    rests = sum(row[t] - prefix[t] for row in whole for t in range(3))
    bound = sum(map(sum, whole)) / (sum(prefix) + rests)

    run = []
    layer = encoder.backbone.model.layers[0]
    handle = layer.register_forward_hook(lambda _, args, output: run.append(args[0].shape[:2].numel()))
    encode_many(encoder, texts, instructions, batch_size=1)
    handle.remove()
    # At the cut a token may hold the end of the one part and the start of the other.
    assert sum(prefix) + rests <= sum(run) <= sum(prefix) + rests + 3 * len(instructions)
    assert len(run) == 3
    assert encoder.usage.tokens == sum(run)
    assert sum(map(sum, whole)) / sum(run) > 0.95 * bound > 2
    assert (encoder.usage.texts, encoder.usage.sequences) == (12, 3)


def test_a_tensor_and_duplicates_and_nothing(encoder):
    vectors = encode_many(encoder, TEXTS, INSTRUCTIONS, convert_to_tensor=True)
    assert isinstance(vectors, torch.Tensor)
    assert torch.equal(vectors[:, 2], vectors[:, 4])
    assert torch.equal(vectors[0], vectors[3])
    assert encode_many(encoder, [], INSTRUCTIONS).shape == (5, 0, 32)
    assert encode_many(encoder, TEXTS, []).shape == (0, 5, 32)
    np.testing.assert_allclose(encode_many(encoder, TEXTS, ["What"]), encoder.encode(TEXTS, instruction="What")[None])


def test_what_cannot_share_runs_apart(make_encoder, llama_folder):
    mean = make_encoder("llama", template=TEMPLATE, pooling="mean")
    bert = make_encoder("bert", template=TEMPLATE, pooling="last")
    both_ways = make_encoder("llama", template=TEMPLATE, pooling="last")
    set_attention(both_ways.backbone.model, "bidirectional")
    window = family_encoder("mistral", "sdpa", llama_folder, sliding_window=8)
    for encoder, words in (
        (mean, "last token"),
        (bert, "bidirectional"),
        (both_ways, "not causal"),
        (window, "window"),
    ):
        assert words in why_apart(encoder)
        np.testing.assert_array_equal(
            encode_many(encoder, TEXTS, INSTRUCTIONS, normalize_embeddings=True), plain(encoder)
        )


def test_wrong_use(encoder, make_encoder):
    for texts, instructions in (("a text", ["What"]), (["a text"], "What")):
        with pytest.raises(InputError, match="one str"):
            encode_many(encoder, texts, instructions)
    with pytest.raises(InputError, match=r"texts\[1\]"):
        encode_many(encoder, ["a", None], ["What"])
    with pytest.raises(InputError, match="no place for an instruction"):
        encode_many(make_encoder("llama", pooling="last"), ["a"], ["What", "Who"])
    with torch.no_grad():
        encoder.backbone.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"texts\[0\]: its vector is not finite"):
        encode_many(encoder, ["a"], ["What", "Who"])
