"""inbedder/mode_encoder.py and cache.py: modes with a template, answers, re-encoding; what a cache may give back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import InputError
from inbedder import ModeEncoder, load
from inbedder.decoding import Decoding

TEXTS = ["I love cat!", "The bank froze my card.", "", "I love cat!"]
QUESTION = "What is the animal mentioned here?"


@pytest.fixture
def modes(folders):
    def make(name="llama", decoding=None, reencoder=None, **options):
        encoder = load(str(folders[name]), device="cpu", dtype="float32", **options)
        return ModeEncoder(encoder, decoding=decoding, reencoder=reencoder)

    return make


@pytest.mark.parametrize("name", ["llama", "opt", "roberta"])
def test_the_default_is_the_encoders_own_vector(name, modes):
    encoder = modes(name)
    want = encoder.encoder.encode(TEXTS, instruction=QUESTION)
    np.testing.assert_allclose(encoder.encode(TEXTS, instruction=QUESTION), want, atol=1e-5)
    both, answers = encoder.encode(TEXTS, instruction=QUESTION, return_generations=True, normalize_embeddings=True)
    np.testing.assert_allclose(both, want / np.linalg.norm(want, axis=1, keepdims=True), atol=1e-5)
    assert len(answers) == 4
    assert answers[0] == answers[3]
    assert not any("###" in answer for answer in answers)


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_shapes(name, modes):
    encoder = modes(name)
    assert encoder.encode(TEXTS[0]).shape == (32,)
    assert encoder.encode([]).shape == (0, 32)
    vectors, answers = encoder.encode([], "all_mean", return_generations=True)
    assert (vectors.shape, answers) == ((0, 32), [])
    tensor = encoder.encode(TEXTS, "all_mean", 2, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), encoder.encode(TEXTS, "avg_all_layer_2"))
    assert encoder.encoder.pooled == ("mask" if name == "roberta" else "all")


@pytest.mark.parametrize("name", ["llama", "roberta"])
@pytest.mark.parametrize("mode", ["prompt_mean", "answer_mean", "all_mean"])
def test_batches_do_not_matter(name, mode, modes):
    encoder = modes(name)
    together = encoder.encode(TEXTS, mode, 2, instruction=QUESTION)
    for options in ({"batch_size": 1}, {"max_batch_tokens": 200}):
        np.testing.assert_allclose(encoder.encode(TEXTS, mode, 2, instruction=QUESTION, **options), together, atol=5e-5)


def test_the_head_is_loaded_only_for_answers(modes):
    encoder = modes()
    encoder.encode(TEXTS)
    encoder.encode(TEXTS, "prompt_mean", 1)
    assert encoder._head is None
    encoder.encode(TEXTS, "answer_mean")
    assert encoder._head is not None
    masked = modes("roberta")
    masked.encode(TEXTS, "answer_mean")
    assert masked._head is None


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_re_encoding_embeds_the_answers_alone(name, modes, bert_folder):
    encoder = modes(name, reencoder=str(bert_folder))
    vectors, answers = encoder.encode(TEXTS, "re_encode", instruction=QUESTION, return_generations=True)
    plain = load(str(bert_folder), device="cpu", dtype="float32", template="{text}")
    assert vectors.shape == (4, plain.dim)
    from common.registry import load as load_method

    want = load_method("sentence-transformer", str(bert_folder), device="cpu").encode(answers)
    np.testing.assert_allclose(vectors, want, atol=1e-5)
    without = modes(name)
    with pytest.raises(InputError, match="give reencoder="):
        without.encode(TEXTS, "re_encode")
    assert without.encoder.usage.sequences == 0, "said before anything is run"


def test_wrong_use(modes, make_encoder):
    with pytest.raises(InputError, match=r"inbedder\.load"):
        ModeEncoder(make_encoder("bert"))
    with pytest.raises(InputError, match=r"texts\[1\]"):
        modes().encode(["a", None])
    with pytest.raises(InputError, match="filter_words: one str"):
        modes().encode(["a"], "answer_mean", filter_words="a word")
    with pytest.raises(InputError, match="0 to 3"):
        modes().encode(["a"], "fst_gen_layer_32")


# ------------------------------ the cache


def run(encoder: ModeEncoder, texts, *args, **options):
    """Vectors, and the number of sequences that were run for them."""
    before = encoder.encoder.usage.sequences
    return encoder.encode(texts, *args, **options), encoder.encoder.usage.sequences - before


def test_known_texts_are_not_run_again_and_new_ones_alone(modes, tmp_path):
    encoder, cache = modes(), {"cache_dir": tmp_path / "cache", "instruction": QUESTION}
    want = encoder.encode(["d", *TEXTS], instruction=QUESTION)
    first, ran = run(encoder, TEXTS, **cache)
    assert ran == 3
    np.testing.assert_allclose(first, want[1:], atol=1e-5)
    again, ran = run(modes(), ["d", *TEXTS[::-1]], **cache)
    assert ran == 1
    np.testing.assert_allclose(again, want[[0, 4, 3, 2, 1]], atol=1e-5)
    assert run(encoder, ["d"], **cache)[1] == 0
    # As many texts, but others: what the released cache returned stale vectors for.
    other, ran = run(encoder, ["w", "x", "y", "z"], **cache)
    assert ran == 4
    np.testing.assert_allclose(other, encoder.encode(["w", "x", "y", "z"], instruction=QUESTION), atol=1e-5)


def test_everything_that_decides_a_vector_is_in_the_key(modes, tmp_path):
    cache = {"cache_dir": tmp_path}

    def fresh(encoder, *args, **options):
        assert run(encoder, TEXTS[:2], *args, **options, **cache)[1] == 2, options
        assert run(encoder, TEXTS[:2], *args, **options, **cache)[1] == 0

    fresh(modes())
    fresh(modes(), instruction=QUESTION)
    fresh(modes(), "first", 2)
    fresh(modes(), "prompt_mean")
    fresh(modes(), "answer_mean")
    fresh(modes(decoding=Decoding(max_new_tokens=5)), "answer_mean")
    fresh(modes(decoding=Decoding(do_sample=True, seed=1)), "answer_mean")
    fresh(modes(), "answer_mean", filter_words=["abcdefghijklmnopqrstuvwxyz"])
    fresh(modes(), return_generations=True)
    fresh(modes(template="{input} {instruction}"))
    fresh(modes(max_length=100))
    fresh(modes(compat="inbedder:left-truncation"))
    fresh(modes("opt"))
    fresh(modes("llama_eos"), "answer_mean")
    fresh(modes("roberta"))
    fresh(modes("roberta", mask_length=1))


def test_a_model_trained_further_gets_no_old_vector(modes, tmp_path):
    encoder = modes()
    first, _ = run(encoder, TEXTS, cache_dir=tmp_path)
    with torch.no_grad():
        encoder.encoder.backbone.model.layers[1].mlp.up_proj.weight[3, 4] += 10.0
    second, ran = run(encoder, TEXTS, cache_dir=tmp_path)
    assert ran == 3
    assert np.abs(first - second).max() > 1e-3


def test_answers_are_cached_too(modes, tmp_path):
    class Length:
        def encode(self, sentences, *, show_progress_bar=None):
            return [[float(len(s))] for s in sentences]

    for name in ("llama", "roberta"):
        encoder = modes(name, reencoder=Length())
        (vectors, answers), ran = run(encoder, TEXTS, "re_encode", return_generations=True, cache_dir=tmp_path)
        (again, same), none = run(encoder, TEXTS, "re_encode", return_generations=True, cache_dir=tmp_path)
        assert (ran, none) == (3, 0)
        assert answers == same == encoder.answers(TEXTS)
        np.testing.assert_array_equal(vectors, again)


def test_a_broken_file_is_run_again(modes, tmp_path, caplog):
    encoder = modes()
    first, _ = run(encoder, TEXTS, cache_dir=tmp_path)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:50])
    again, ran = run(encoder, TEXTS, cache_dir=tmp_path)
    assert ran == 3
    np.testing.assert_allclose(again, first, atol=1e-6)
    assert "can't be read" in caplog.text
    assert run(encoder, TEXTS, cache_dir=tmp_path)[1] == 0
    assert not list(tmp_path.rglob("*.tmp"))
