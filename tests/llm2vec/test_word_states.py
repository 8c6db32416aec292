"""Word states: which tokens are a word's, which states stand for them, batches, caches."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from word_fixtures import frozen, rows

from common.backbone import Backbone
from common.errors import InputError
from llm2vec.word_states import Aligned, CachedStates, LiveStates, WordEncoder, align, batches

SENTENCES = [
    ["The", "cat", "summarized", "similarity", "."],
    ["rain"],
    ["Two", "men", "measured", "the", "mountains", "1996-08-22", "quickly"],
    ["New York", "naïve", "café", "sat"],
]


@pytest.fixture(scope="module")
def bytes_llama(llama_folder: Path) -> Backbone:
    """Byte-level BPE, nothing in front of a text, random weights."""
    return frozen(llama_folder)


@pytest.fixture(scope="module")
def stories_llama(stories: Path) -> Backbone:
    """SentencePiece, <s> in front of a text, trained weights."""
    return frozen(stories)


@pytest.fixture(params=["bytes_llama", "stories_llama"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return request.getfixturevalue(request.param)


def by_hand(backbone: Backbone, words: list[str], labels: str, merge: bool = True) -> np.ndarray:
    """The states (K, D) of one sentence, word by word, from the definition."""
    encoded = backbone.tokenizer(" ".join(words), return_offsets_mapping=True, return_special_tokens_mask=True)
    with torch.no_grad():
        hidden = backbone.model(input_ids=torch.tensor([encoded["input_ids"]])).last_hidden_state[0]
    found, start = [], 0
    for word in words:
        end = start + len(word)
        own = [
            i
            for i, (offset, special) in enumerate(zip(encoded["offset_mapping"], encoded["special_tokens_mask"]))
            # Some tokenizers count the blank before a word to the word's first token.
            if (not special and start <= offset[1] - 1 < end) or (not special and offset[1] == start and start > 0)
        ]
        own = own if merge else own[:1]
        places = [max(i - 1, 0) for i in own] if labels == "next_token" else own
        found.append(torch.stack([hidden[i] for i in places]).mean(dim=0).numpy())
        start = end + 1
    return np.stack(found)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "first"])
@pytest.mark.parametrize("labels", ["same_token", "next_token"])
def test_states_are_those_of_the_definition(backbone: Backbone, labels: Any, merge: bool) -> None:
    """All sentences in one padded batch, against each alone and word by word."""
    encoder = WordEncoder(backbone, labels=labels, merge_subwords=merge)
    aligned = encoder.align(SENTENCES)
    found = encoder.states(aligned, [2, 0, 3, 1]).numpy()
    expected = np.concatenate([by_hand(backbone, SENTENCES[i], labels, merge) for i in (2, 0, 3, 1)])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert [list(kept) for kept in aligned.kept] == [list(range(len(words))) for words in SENTENCES]


def test_the_choices_differ(backbone: Backbone) -> None:
    aligned = {}
    for name, options in {
        "same": {"labels": "same_token"},
        "next": {"labels": "next_token"},
        "first": {"labels": "same_token", "merge_subwords": False},
    }.items():
        encoder = WordEncoder(backbone, **options)  # type: ignore[arg-type]
        aligned[name] = encoder.states(encoder.align(SENTENCES), [0]).numpy()
    assert np.abs(aligned["same"] - aligned["next"]).max() > 0.1
    assert np.abs(aligned["same"] - aligned["first"]).max() > 0.1


def test_the_state_before_the_first_token(bytes_llama: Backbone, stories_llama: Backbone) -> None:
    """<s> where the tokenizer puts it there, else the first token itself; all other states are those before."""
    for backbone, first in ((bytes_llama, 0), (stories_llama, 1)):
        same, after = (align(backbone.tokenizer, SENTENCES, labels=labels) for labels in ("same_token", "next_token"))  # type: ignore[arg-type]
        assert same.ids == after.ids
        for here, before in zip(same.positions, after.positions):
            assert here[0] == first
            assert before[0] == 0
            np.testing.assert_array_equal(before[1:], here[1:] - 1)
        assert same.words == after.words == sum(map(len, SENTENCES))


def test_what_a_causal_model_knows_of_a_word(stories: Path) -> None:
    """Before a word it has not seen the word; at a word it has, but nothing behind it."""
    backbone = frozen(stories, "causal")

    def states(words: list[str], labels: Any) -> np.ndarray:
        encoder = WordEncoder(backbone, labels=labels)
        return encoder.states(encoder.align([words]), [0]).numpy()

    one, other = ["The", "cat", "sat"], ["The", "dog", "sat"]  # each word is one token or more
    moved = {labels: np.abs(states(one, labels) - states(other, labels)).max(axis=1) for labels in
             ("same_token", "next_token")}  # fmt: skip
    assert moved["same_token"][0] < 1e-5
    assert moved["same_token"][1] > 0.1
    first = backbone.tokenizer.tokenize("cat")[0] == backbone.tokenizer.tokenize("dog")[0]
    assert moved["next_token"][0] < 1e-5
    assert first or moved["next_token"][2] > 0.1
    singles = WordEncoder(backbone, labels="next_token", merge_subwords=False)
    a, b = (singles.states(singles.align([words]), [0])[1] for words in (one, other))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.shared
def test_llama_tokens_are_those_of_word_by_word(stories: Path) -> None:
    """For the tokenizers of the paper's models: what the released code makes of a list of words."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories)
    sentences = [row["tokens"] for row in rows(50, 0)] + SENTENCES[:3]
    found = align(tokenizer, sentences, labels="same_token")
    for i, words in enumerate(sentences):
        split = tokenizer(words, is_split_into_words=True)
        assert found.ids[i] == split["input_ids"]
        assert [int(r) for r in found.ranks[i]] == [w for w in split.word_ids() if w is not None]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=6).filter(lambda word: word.strip()), min_size=1, max_size=8))
def test_every_word_has_its_own_tokens(bytes_llama: Backbone, words: list[str]) -> None:
    """Any words, in a byte-level tokenizer: none is left out, tokens go up with the words, bytes add up."""
    aligned = align(bytes_llama.tokenizer, [words], labels="same_token")
    assert list(aligned.kept[0]) == list(range(len(words)))
    assert (np.diff(aligned.ranks[0]) >= 0).all()
    for i, word in enumerate(words):
        ids = [aligned.ids[0][p] for p, rank in zip(aligned.positions[0], aligned.ranks[0]) if rank == i]
        text = bytes_llama.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert text.endswith(word) or word.strip() != word  # a word's own outer blanks may go to a neighbour


def test_what_is_too_long_has_no_state(bytes_llama: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    sentence = ["cat"] * 50
    whole = len(align(bytes_llama.tokenizer, [sentence]).ids[0])
    aligned = align(bytes_llama.tokenizer, [sentence, ["rain"]], max_length=whole // 2)
    assert len(aligned.ids[0]) == whole // 2
    assert 0 < len(aligned.kept[0]) < 50
    assert list(aligned.kept[1]) == [0]
    assert f"{51 - aligned.words} words have no state" in caplog.text
    encoder = WordEncoder(bytes_llama, max_length=10_000)
    assert encoder.max_length == 256  # what the model reads


def test_an_encoder_is_read_too(bert_folder: Path) -> None:
    from common.backbone import load_backbone

    backbone = load_backbone(str(bert_folder), dtype="float32", device="cpu")
    encoder = WordEncoder(backbone, labels="same_token")
    aligned = encoder.align([["the", "cat", "sat"]])
    assert aligned.positions[0][0] == 1  # behind [CLS]
    assert aligned.positions[0][-1] == len(aligned.ids[0]) - 2  # before [SEP]
    assert encoder.states(aligned, [0]).shape == (3, 32)


def test_a_slow_tokenizer_is_refused(bytes_llama: Backbone) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="Slow: words need a fast tokenizer"):
        align(Slow(), [["a"]])  # type: ignore[arg-type]


# ------------------------------ caches


@pytest.fixture(scope="module")
def many() -> list[list[str]]:
    return [row["tokens"] for row in rows(40, 5)] + [SENTENCES[2]]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_cached_states_are_live_states(bytes_llama: Backbone, many: list[list[str]], kind: Any) -> None:
    encoder = WordEncoder(bytes_llama, max_tokens=64)
    aligned = encoder.align(many)
    cached = CachedStates(encoder, aligned, kind)
    assert isinstance(cached._array, np.memmap) == (kind == "disk")
    assert encoder.tokens == sum(aligned.lengths)  # each sentence was run once
    live = LiveStates(encoder, aligned)
    for numbers in ([0], [7, 3, 40, 3], list(range(41))):
        found = cached.batch(numbers)
        assert found.dtype == torch.float32
        assert torch.allclose(found, live.batch(numbers), atol=2e-5)
    half = CachedStates(encoder, aligned, kind, "float16")
    assert half._array.dtype == np.float16
    assert not torch.equal(half.batch([0]), cached.batch([0]))
    assert torch.allclose(half.batch([0]), cached.batch([0]), rtol=1e-3, atol=1e-4)


def test_states_beyond_fp16_are_refused(llama_folder: Path, many: list[list[str]]) -> None:
    backbone = frozen(llama_folder)
    with torch.no_grad():
        backbone.model.norm.weight.mul_(1e6)  # type: ignore[union-attr, operator]
    encoder = WordEncoder(backbone)
    with pytest.raises(InputError, match="--cache_dtype float16: a state is too large"):
        CachedStates(encoder, encoder.align(many), "memory", "float16")


def test_no_room_on_the_disk_is_said(bytes_llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    encoder = WordEncoder(bytes_llama)
    with pytest.raises(InputError, match=r"--cache disk: .*gone: .*set TMPDIR"):
        CachedStates(encoder, encoder.align([["a"]]), "disk")


def test_batches_hold_every_sentence_once(many: list[list[str]], bytes_llama: Backbone) -> None:
    aligned: Aligned = align(bytes_llama.tokenizer, many)
    found = list(batches(aligned, 30))
    assert sorted(i for numbers in found for i in numbers) == list(range(len(many)))
    assert all(len(n) == 1 or len(n) * max(aligned.lengths[i] for i in n) <= 30 for n in found)
