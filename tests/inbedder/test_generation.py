"""inbedder/generation.py and causal.py: answers as transformers generates them, states as one pass gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inbedder import ModeEncoder, load
from inbedder.decoding import Decoding
from inbedder.generation import left_padded

TEXTS = ["I love cat!", "The bank froze my card and I am furious about the delay.", "", "I dislike dogs"]
QUESTION = "What is the animal mentioned here?"
MODES = ("first", "prompt_mean", "answer_mean", "last_answer", "all_mean")


@pytest.fixture
def modes(folders):
    """`modes("llama_eos", max_new_tokens=3, compat=...)`: an encoder of modes, fp32."""

    def make(name, compat=None, **decoding):
        encoder = load(str(folders[name]), device="cpu", dtype="float32", compat=compat)
        return ModeEncoder(encoder, decoding=Decoding(**decoding))

    return make


def by_hand(modes, folder, mode, layer, texts=TEXTS):
    """One text at a time: transformers' own generate, then one pass over prompt and answer, and the definitions."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    vectors, answers = [], []
    for ids in modes.encoder.tokenize(texts, instruction=QUESTION):
        prompt = torch.tensor([ids])
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=modes.decoding.max_new_tokens,
            do_sample=False,
            pad_token_id=1,
        )
        with torch.no_grad():
            states = model(whole, output_hidden_states=True).hidden_states[layer][0]
        answer = whole[0, len(ids) :].tolist()
        kept = [states[len(ids) + t] for t in range(len(answer) - 1) if answer[t + 1] not in tokenizer.all_special_ids]
        first, prompt_states = states[len(ids) - 1], list(states[: len(ids)])
        vectors.append(
            {
                "first": first,
                "prompt_mean": torch.stack(prompt_states[:-1]).mean(dim=0),
                "answer_mean": torch.stack([first, *kept]).mean(dim=0),
                "last_answer": kept[-1] if kept else first,
                "all_mean": torch.stack([*prompt_states, *kept]).mean(dim=0),
            }[mode]
        )
        answers.append(answer)
    return torch.stack(vectors), answers


@pytest.mark.parametrize("name", ["llama", "llama_eos", "opt_eos"])
@pytest.mark.parametrize("tokens", [1, 5])
def test_every_mode_by_its_definition(name, tokens, modes, folders):
    """An answer that ends at once, or of one token, has its own states alone: no others', none after EOS."""
    encoder = modes(name, max_new_tokens=tokens)
    for mode in MODES:
        for layer in (1, 3):
            want, answers = by_hand(encoder, folders[name], mode, layer)
            got = encoder.run(TEXTS, mode, layer, instruction=QUESTION, answers=True)
            assert got.answers == answers
            np.testing.assert_allclose(got.vectors, want, atol=5e-5, err_msg=f"{mode} {layer}")
            plain = encoder.encode(TEXTS, mode, layer, instruction=QUESTION)
            np.testing.assert_allclose(plain, want, atol=5e-5, err_msg=f"{mode} {layer}, no answers asked for")


@pytest.mark.parametrize("name", ["llama_eos", "opt_eos"])
def test_rows_that_end_at_once_do_not_depend_on_their_batch(name, modes, inputs, arrays):
    """In the original such a batch is an IndexError, or gives a state behind EOS."""
    encoder = modes(name, max_new_tokens=3)
    texts = inputs["inputs"]
    ended = arrays[f"{name}/decoded_ids"][:, 0] == 2
    assert ended.any()
    assert not ended.all()
    for mode in MODES:
        together = encoder.encode(texts, mode, instruction=inputs["instruction"])
        alone = np.stack([encoder.encode(t, mode, instruction=inputs["instruction"]) for t in texts])
        np.testing.assert_allclose(together, alone, atol=5e-5)
        if mode in ("answer_mean", "last_answer"):
            first = encoder.encode(texts, "first", instruction=inputs["instruction"])
            np.testing.assert_allclose(together[ended], first[ended], atol=5e-5)


def test_the_released_fallback_is_batch_independent_too(modes, inputs):
    encoder = modes("llama_eos", compat="inbedder:g1-fallback", max_new_tokens=3)
    ours = modes("llama_eos", max_new_tokens=3)
    asked = {"instruction": inputs["instruction"]}
    for mode in ("answer_mean", "last_answer", "all_mean"):
        together = encoder.encode(inputs["inputs"], mode, **asked)
        alone = np.stack([encoder.encode(t, mode, **asked) for t in inputs["inputs"]])
        np.testing.assert_allclose(together, alone, atol=5e-5)
        assert np.abs(together - ours.encode(inputs["inputs"], mode, **asked)).max() > 1e-2
    one = modes("llama_eos", compat="inbedder:g1-fallback", max_new_tokens=1)
    np.testing.assert_allclose(one.encode("x", "answer_mean"), one.encode("x", "first"), atol=5e-5)


def test_all_rows_ending_stops_the_work(modes, inputs):
    encoder = modes("llama_eos", max_new_tokens=50)
    calls = []
    handle = encoder.encoder.backbone.model.register_forward_hook(lambda *_: calls.append(1))
    at_once = inputs["inputs"][1]
    assert encoder.answers([at_once], instruction=inputs["instruction"]) == [""]
    handle.remove()
    assert len(calls) == 1


def test_sampling_depends_on_seed_and_prompt_alone(modes):
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 0.9, "top_p": 0.9}
    encoder = modes("llama", **settings)
    together = encoder.answers(TEXTS, instruction=QUESTION)
    assert together == [encoder.answers([t], instruction=QUESTION)[0] for t in TEXTS]
    assert together == modes("llama", **settings).answers(TEXTS[::-1], instruction=QUESTION, batch_size=2)[::-1]
    assert together != modes("llama", seed=1, **settings).answers(TEXTS, instruction=QUESTION)
    greedy = modes("llama", max_new_tokens=6).answers(TEXTS, instruction=QUESTION)
    assert together != greedy
    assert greedy == modes("llama", top_k=1, **settings).answers(TEXTS, instruction=QUESTION)


def test_draws_follow_the_distribution(modes):
    """First tokens of one prompt under many seeds, against its probabilities; top_k cuts them."""
    encoder = modes("llama")
    ids = torch.tensor(encoder.encoder.tokenize(["hello"]))
    with torch.no_grad():
        states = encoder.encoder.backbone.model(ids).last_hidden_state[:, -1]
        logits = encoder.head(states, encoder.encoder.backbone.model)[0]
    seeds = range(150)
    decodings = [Decoding(max_new_tokens=1, do_sample=True, top_k=3, temperature=4.0, seed=s) for s in seeds]
    drawn = []
    for decoding in decodings:
        encoder.decoding = decoding
        drawn.append(encoder.run(["hello"], answers=True).answers[0][0])
    top = logits.topk(3)
    assert set(drawn) <= set(top.indices.tolist())
    want = (top.values / 4.0).softmax(dim=0)
    share = [drawn.count(i) / len(drawn) for i in top.indices.tolist()]
    np.testing.assert_allclose(share, want, atol=0.13)


def test_filtered_words_count_as_no_answer(modes):
    encoder = modes("llama", max_new_tokens=4)
    result = encoder.run(TEXTS[:1], "last_answer", instruction=QUESTION, answers=True)
    last = result.answers[0][-1]
    if last < 5:
        pytest.skip("the answer ends with a special token")
    word = encoder.encoder.backbone.tokenizer.decode([last])
    word = word if word != "\ufffd" else None
    names = [word] if word else [bytes([last - 5]).decode("latin-1")]
    before = encoder._filter_ids(names)
    filtered = encoder.run(TEXTS[:1], "last_answer", instruction=QUESTION, filter_words=names)
    assert (last in before) == bool((filtered.vectors - result.vectors).abs().max() > 1e-3)


def test_a_text_at_the_end_of_the_positions_leaves_room_for_the_answer(modes):
    encoder = modes("opt", max_new_tokens=20)
    assert len(encoder.answers(["long " * 100], instruction=QUESTION)) == 1
    assert encoder.encoder.usage.truncated == 1


def test_left_padding():
    ids, mask = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    left, real = left_padded(ids, mask)
    assert left.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert real.tolist() == [[1, 1, 1], [0, 0, 1]]
