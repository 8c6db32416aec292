"""inbedder/cluster_words.py: the words that tell clusters apart, against the released formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inbedder import ModeEncoder, load
from inbedder.cluster_words import common_words, head_words, tfidf_words, word_starts

TEXTS = ["I love cat!", "I love dog!", "The bank froze my card.", "My card was declined.", "A cat sat on the mat."]


def test_tfidf_words_follow_the_released_formula():
    documents = ["cat cat dog mat", "bank card card dog", "dog dog dog rain"]
    # tf-idf of scikit-learn's defaults by hand: idf = ln((1 + 3) / (1 + df)) + 1, rows of length 1
    vocabulary = sorted({word for document in documents for word in document.split()})
    counts = np.array([[document.split().count(word) for word in vocabulary] for document in documents], dtype=float)
    weighted = counts * (np.log(4 / (1 + (counts > 0).sum(axis=0))) + 1)
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    scores = weighted - weighted.mean(axis=0)
    want = [[vocabulary[i] for i in np.argsort(-row, kind="stable") if row[i] > 0] for row in scores]
    assert tfidf_words(documents, 20) == want
    assert [words[0] for words in want] == ["cat", "card", "dog"]
    assert "dog" not in want[0]  # below the average
    assert tfidf_words(documents, 1) == [words[:1] for words in want]


def test_tfidf_words_without_words_or_with_one_document():
    assert tfidf_words(["", "! 1"], 5) == [[], []]
    assert tfidf_words(["", "cat"], 5) == [[], ["cat"]]
    assert tfidf_words(["cat cat dog"], 5) == [["cat", "dog"]]


@pytest.mark.parametrize("name", ["llama", "opt"])
def test_head_words_are_the_top_tokens_of_the_contrast(name, folders):
    from transformers import AutoModelForCausalLM

    modes = ModeEncoder(load(str(folders[name]), device="cpu", dtype="float32"))
    vectors = modes.encode(TEXTS, convert_to_tensor=True)
    centres, mean = torch.stack([vectors[:2].mean(dim=0), vectors[2:].mean(dim=0)]), vectors.mean(dim=0)
    head = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).lm_head
    tokenizer = modes.encoder.backbone.tokenizer
    found = head_words(modes, centres, mean, 12)
    for contrast, words in zip(centres - mean, found):
        order = head(contrast).argsort(descending=True).tolist()
        tokens = [tokenizer.decode([token]).strip() for token in order if token not in tokenizer.all_special_ids]
        kept = [token for token in tokens if any(letter.isalnum() for letter in token)]
        first = [word for i, word in enumerate(kept) if word.casefold() not in {w.casefold() for w in kept[:i]}]
        assert words == first[:12]
    assert found[0] != found[1]


def test_head_words_of_a_masked_model_compare_logits(folders):
    from transformers import AutoModelForMaskedLM

    modes = ModeEncoder(load(str(folders["roberta"]), device="cpu", dtype="float32"))
    vectors = modes.encode(TEXTS, convert_to_tensor=True)
    centres, mean = torch.stack([vectors[:2].mean(dim=0), vectors[2:].mean(dim=0)]), vectors.mean(dim=0)
    head = AutoModelForMaskedLM.from_pretrained(folders["roberta"], dtype=torch.float32).lm_head.eval()
    order = (head(centres[:1]) - head(mean[None]))[0].argsort(descending=True).tolist()
    tokenizer = modes.encoder.backbone.tokenizer
    words = [tokenizer.decode([token]).strip() for token in order if token not in tokenizer.all_special_ids]
    likeliest = next(word for word in words if any(letter.isalnum() for letter in word))
    assert head_words(modes, centres, mean, 5)[0][0] == likeliest


def test_what_the_question_says_names_nothing():
    assert {"topic", "the", "text"} <= common_words("What is the TOPIC of the text?")
    assert "anime" not in common_words("What is the topic of the text?")


def test_pieces_of_words_name_nothing():
    """Of byte-level BPE, SentencePiece and WordPiece; a word at the start of an answer bears no mark."""
    for mark in ("Ġ", "▁"):
        vocabulary = [f"{mark}cat", "cat", "ité", f"{mark}Mars", "eille", f"{mark}oe", mark]
        assert word_starts(vocabulary) == {0, 1, 3, 5, 6}
    assert word_starts(["cat", "##ing", "mat"]) == {0, 2}
    # Single bytes, of which one happens to be the mark: nothing is told.
    assert word_starts(["a", "b", "Ġ"]) == {0, 1, 2}


def test_head_words_begin_words(weights):
    modes = ModeEncoder(load(weights[0], device="cpu", dtype="float32"))
    tokenizer = modes.encoder.backbone.tokenizer
    vocabulary = tokenizer.get_vocab()

    def pieces(words):
        """Those that no word begins with; bytes beyond ASCII are spelled otherwise in the vocabulary."""
        return [word for word in words if word.isascii() and f"Ġ{word}" not in vocabulary]

    directions = torch.randn((2, modes.encoder.dim), generator=torch.Generator().manual_seed(0))
    order = modes.head(directions, modes.encoder.embedder.trunk).argsort(descending=True)[:, :20]
    assert all(pieces([tokenizer.decode([token]).strip() for token in row]) for row in order.tolist())
    found = head_words(modes, directions, torch.zeros(modes.encoder.dim), 20)
    assert [len(words) for words in found] == [20, 20]
    assert [pieces(words) for words in found] == [[], []]
