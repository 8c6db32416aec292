"""The words that tell one cluster of texts from the others: by tf-idf, and through the language-model head."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inbedder.mode_encoder import ModeEncoder
from inbedder.pair import PairEmbedder


def tfidf_words(documents: Sequence[str], top_k: int) -> list[list[str]]:
    """The words that stand out in each of k documents, the most telling first; a document is what a cluster says.

    A word's score in a document is its tf-idf there (scikit-learn's defaults, over the k documents) less its mean over
    the documents: the released `generation_tfidf`. Words that score no higher than on average are left out, so there
    may be fewer than `top_k`. With one document there is no average to beat: its tf-idf counts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer()
    try:
        scores = vectorizer.fit_transform(documents).toarray()
    except ValueError:  # no document has a word of two letters
        return [[] for _ in documents]
    if len(documents) > 1:
        scores = scores - scores.mean(axis=0)
    names = vectorizer.get_feature_names_out()
    # Stable: of equal scores the first in the alphabet, on every machine.
    orders = [np.argsort(-row, kind="stable")[:top_k] for row in scores]
    return [[str(names[i]) for i in order if row[i] > 0] for row, order in zip(scores, orders)]


def common_words(question: str) -> frozenset[str]:
    """Words that say nothing of an answer: those of the question (small models repeat it), and common English ones."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    return frozenset(TfidfVectorizer().build_analyzer()(question)) | ENGLISH_STOP_WORDS


def head_words(modes: ModeEncoder, centres: Tensor, mean: Tensor, top_k: int) -> list[list[str]]:
    """What each cluster's texts would be answered with, more than the others: needs no generated answer.

    A causal model's head is put on (centre - mean), the released `contrastive_decoding`. A masked model's head is not
    linear: there the logits at the mean are taken from those at the centre. The likeliest tokens are given as words:
    without blanks, each once whatever its case, tokens without a letter or digit left out, and (unlike the released
    code) those that only stand within words, such as "ité".

    Args:
        modes: the encoder whose vectors were clustered, with its head.
        centres: (k, D), fp32: the mean vector of each cluster, of the last layer.
        mean: (D,), fp32: that of all texts.
        top_k: words per cluster.
    """
    scores = _scores(modes, centres, mean)
    tokenizer = modes.encoder.backbone.tokenizer
    usable = word_starts(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    usable -= set(tokenizer.all_special_ids)
    found: list[list[str]] = []
    for order in scores.argsort(dim=1, descending=True).tolist():
        words: dict[str, str] = {}
        for token in order:
            word = str(tokenizer.decode([token])).strip()
            if token in usable and any(letter.isalnum() for letter in word):
                words.setdefault(word.casefold(), word)
            if len(words) == top_k:
                break
        found.append(list(words.values()))
    return found


def word_starts(vocabulary: Sequence[str]) -> set[int]:
    """The ids of tokens that can begin a word; all where the vocabulary does not say which do.

    Byte-level BPE and SentencePiece mark them, but behind `### Response:` an answer's first word has no blank before
    it and so no mark: a token counts, too, if the vocabulary has it with the mark. WordPiece marks the others.
    """
    known = set(vocabulary)
    for mark in ("Ġ", "▁"):
        if any(token.startswith(mark) and token != mark for token in known):
            return {i for i, token in enumerate(vocabulary) if token.startswith(mark) or mark + token in known}
    return {i for i, token in enumerate(vocabulary) if not token.startswith("##")}


@torch.inference_mode()
def _scores(modes: ModeEncoder, centres: Tensor, mean: Tensor) -> Tensor:
    """(k, V), fp32, on the CPU."""
    backbone = modes.encoder.backbone
    if not modes.masked:
        contrast = (centres - mean).to(backbone.device, backbone.dtype)
        return modes.head(contrast, modes.encoder.embedder.trunk).float().cpu()
    head = copy.deepcopy(modes.head).float()  # differences of two logits in bf16 would be mostly rounding
    if isinstance(modes.encoder.embedder, PairEmbedder):
        head = head.decoder  # type: ignore[assignment]  # the vectors come from behind its first part
    both = head(torch.cat([centres, mean[None]]).to(backbone.device)).cpu()
    return both[:-1] - both[-1]
