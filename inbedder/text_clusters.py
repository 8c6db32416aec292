"""Cluster texts by what a question about them would be answered with, and say what each cluster is about.

`inbedder.cluster` does what the released propose.py, analyze_propose_results.py and gather_cluster_results.py did.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch

from common.encoder import Encoder
from common.errors import InputError
from common.many_instructions import encode_many
from common.prompts import check_texts
from inbedder.cluster_words import common_words, head_words, tfidf_words
from inbedder.decoding import Decoding
from inbedder.encoder import load
from inbedder.evaluation.clustering import assign, v_measure
from inbedder.mode_encoder import ModeEncoder
from inbedder.pair import PairEncoder

logger = logging.getLogger(__name__)

# As released.
N_INIT = 10
REPRESENTATIVES = 5


@dataclass(frozen=True)
class Cluster:
    """One cluster and what explains it.

    Attributes:
        members: the indices of its texts, in their order.
        answer_words: what stands out in its answers (`tfidf_words`); empty without answers.
        text_words: what stands out in its texts, likewise.
        head_words: what the model would say of its texts more than of others (`cluster_words.head_words`); empty for
            vectors that are not of the last layer.
        representatives: the indices of the texts nearest to its centre, the nearest first.
        words: what names it: the words of its answers that are neither common (English) nor in the question; where
            there are none those of the head, then those of its texts.
        components: how many of its texts bear each label, the most frequent first; None without labels.
        entropy: of the labels, in bits: 0 where all are the same; None without labels.
    """

    members: tuple[int, ...]
    answer_words: tuple[str, ...]
    text_words: tuple[str, ...]
    head_words: tuple[str, ...]
    representatives: tuple[int, ...]
    words: tuple[str, ...]
    components: dict[str, int] | None = None
    entropy: float | None = None

    @property
    def size(self) -> int:
        """The number of its texts."""
        return len(self.members)


@dataclass(frozen=True)
class Clustering:
    """The clusters of n texts under one instruction.

    Attributes:
        instruction: the question that was asked.
        clusters: in the order of their entropy where labels were given, else the largest first.
        assignment: (n,) int: the place in `clusters` of each text's cluster.
        vectors: (n, D) float32: what was clustered.
        answers: one per text; None where none were asked for.
        v_measure: of the clusters against the labels, x 100; None without labels.
    """

    instruction: str
    clusters: tuple[Cluster, ...]
    assignment: np.ndarray
    vectors: np.ndarray
    answers: tuple[str, ...] | None = None
    v_measure: float | None = None


@overload
def cluster(texts: Sequence[str], instruction: str, n_clusters: int, **options: Any) -> Clustering: ...
@overload
def cluster(texts: Sequence[str], instruction: Sequence[str], n_clusters: int, **options: Any) -> list[Clustering]: ...
def cluster(
    texts: Sequence[str],
    instruction: str | Sequence[str],
    n_clusters: int,
    labels: Sequence[Any] | None = None,
    encoder: Encoder | ModeEncoder | str | None = None,
    top_k: int = 20,
    seed: int = 42,
    *,
    mode: str | None = None,
    layer: int = -1,
    answers: bool = True,
    decoding: Decoding | None = None,
    filter_words: Sequence[str] | None = None,
    cache_dir: str | None = None,
    **options: Any,
) -> Clustering | list[Clustering]:
    """Cluster texts once per instruction (k-means, 10 starts, on the vectors as they are) and explain the clusters.

    With answers every instruction is a pass of its own over the texts, which gives the vectors, too. Without them
    the instructions share one pass (`encode_many`), and the clusters are explained by the words of their texts and by
    those that the language-model head puts forward.

    Args:
        texts: n texts.
        instruction: a question about each text, or several.
        n_clusters: k.
        labels: one per text, to compare with; for several instructions also one such list per instruction.
        encoder: of `inbedder.load`, a `ModeEncoder`, or a model's name; None: the embedded default.
        top_k: words per cluster.
        seed: of k-means.
        mode: what is clustered, see `inbedder.modes`; default: the encoder's own vector.
        layer: of the mode.
        answers: let the model answer.
        decoding: how; default: greedy, at most 3 tokens (or that of the `ModeEncoder`). Masked models answer at masks.
        filter_words: words whose tokens count as no answer, see `ModeEncoder.encode`.
        cache_dir: keep vectors and answers there, for the next call.
        options: batch_size, max_batch_tokens, show_progress_bar, devices of `Encoder.encode`.

    Returns:
        One `Clustering`; a list of them for a list of instructions.

    Raises:
        InputError: fewer distinct texts than clusters, an instruction that stands there twice, labels of another
            length, an unknown mode.
    """
    if isinstance(texts, str):
        raise InputError("texts: one str; give a list of them")
    items = check_texts(texts)
    asked = [instruction] if isinstance(instruction, str) else check_texts(instruction)
    _check(items, asked, n_clusters, top_k)
    per_instruction = _labels(labels, len(items), len(asked))
    modes = _mode_encoder(encoder, decoding)
    own = mode is None and layer == -1
    how = {"mode": mode, "layer": layer, "answers": answers, "filter_words": filter_words, "cache_dir": cache_dir}
    vectors, spoken = _run(modes, items, asked, own, how, options)
    reads_head = own or _takes_head(modes, mode, layer)
    found = []
    for i, question in enumerate(asked):
        assignment = assign(vectors[i], n_clusters, seed, n_init=N_INIT)
        clusters = _describe(items, question, vectors[i], assignment, spoken[i], modes if reads_head else None, top_k)
        found.append(_ordered(question, clusters, vectors[i], spoken[i], per_instruction[i]))
    return found[0] if isinstance(instruction, str) else found


def label_counts(labels: Sequence[str]) -> dict[str, int]:
    """How often each label stands there, the most frequent first."""
    return dict(Counter(labels).most_common())


def entropy_bits(counts: Sequence[int]) -> float:
    """Of a distribution given by counts: sum of -p log2 p."""
    shares = np.array([count for count in counts if count], dtype=float)
    shares /= shares.sum()
    return float(abs(-(shares * np.log2(shares)).sum()))  # abs: no -0.0 where all labels are one


# -------------------------------------------------------------------------------------------------- checks


def _check(texts: list[str], instructions: list[str], n_clusters: int, top_k: int) -> None:
    if not texts:
        raise InputError("no text to cluster")
    if not instructions:
        raise InputError("no instruction; give at least one question about the texts")
    twice = [i for i in instructions if instructions.count(i) > 1]
    if twice:
        raise InputError(f"instruction {twice[0]!r} stands there twice; it would give the same clusters")
    if n_clusters < 1:
        raise InputError(f"n_clusters {n_clusters}: must be at least 1")
    if top_k < 1:
        raise InputError(f"top_k {top_k}: must be at least 1")
    different = len(set(texts))
    if n_clusters > different:
        raise InputError(f"n_clusters {n_clusters}: there are only {different} different texts")


def _labels(labels: Sequence[Any] | None, texts: int, instructions: int) -> list[list[str] | None]:
    """The labels that each instruction's clusters are compared with, as text."""
    if labels is None:
        return [None] * instructions
    nested = len(labels) == instructions and all(isinstance(part, list | tuple | np.ndarray) for part in labels)
    lists = [list(part) for part in labels] if nested else [list(labels)] * instructions
    for one in lists:
        if len(one) != texts:
            raise InputError(f"labels: {len(one)} for {texts} texts; give one per text")
        for i, label in enumerate(one):
            if not isinstance(label, Hashable) or label is None:
                raise InputError(f"labels[{i}]: {label!r} is no label")
    return [[str(label) for label in one] for one in lists]


def _mode_encoder(encoder: Encoder | ModeEncoder | str | None, decoding: Decoding | None) -> ModeEncoder:
    if isinstance(encoder, ModeEncoder):
        if decoding is not None:
            raise InputError("decoding: the ModeEncoder has its own; give an encoder instead")
        return encoder
    return ModeEncoder(encoder if isinstance(encoder, Encoder) else load(encoder), decoding=decoding)


# --------------------------------------------------------------------------------------------- what is run


def _takes_head(modes: ModeEncoder, mode: str | None, layer: int) -> bool:
    """Whether a mode's vectors are what the language-model head takes."""
    if isinstance(modes.encoder, PairEncoder):
        return False  # of such an encoder only its own vector is one
    chosen = modes.find_mode(mode, layer)
    return chosen.layer == modes.layers and chosen.name != "re_encode"


def _is_default_mode(modes: ModeEncoder) -> bool:
    """Whether the encoder's own vector is that of the default mode: without another convention, pooling or scale."""
    encoder = modes.encoder
    usual = "mean" if modes.masked else "last"
    return not isinstance(encoder, PairEncoder) and encoder.pooling == usual and not encoder.normalize


def _run(
    modes: ModeEncoder,
    texts: list[str],
    instructions: list[str],
    own: bool,
    how: dict[str, Any],
    options: dict[str, Any],
) -> tuple[list[np.ndarray], list[tuple[str, ...] | None]]:
    """Vectors (n, D) and, where asked for, answers, per instruction; own: of the encoder's own vector."""
    answers, encoder = how["answers"], modes.encoder
    apart = own and not _is_default_mode(modes)
    if own and not answers and (apart or how["cache_dir"] is None):
        return list(encode_many(encoder, texts, instructions, **options)), [None] * len(instructions)
    vectors: list[np.ndarray] = []
    spoken: list[tuple[str, ...] | None] = []
    for number, question in enumerate(instructions, 1):
        logger.info("instruction %d of %d: %s", number, len(instructions), question)
        result = modes.run(texts, instruction=question, **how, **options)
        found = encoder.encode(texts, instruction=question, **options) if apart else result.vectors.numpy()
        vectors.append(found)
        spoken.append(tuple(a.strip() for a in modes.decode(result.answers or [])) if answers else None)
    return vectors, spoken


# ---------------------------------------------------------------------------------------------- description


def _describe(
    texts: list[str],
    question: str,
    vectors: np.ndarray,
    assignment: np.ndarray,
    answers: tuple[str, ...] | None,
    modes: ModeEncoder | None,
    top_k: int,
) -> list[Cluster]:
    """The clusters that have texts, in the order of k-means; modes: whose head is read."""
    groups = [np.flatnonzero(assignment == number) for number in np.unique(assignment)]
    centres = np.stack([vectors[group].mean(axis=0) for group in groups])
    of_texts = tfidf_words([" ".join(texts[i] for i in group) for group in groups], top_k)
    of_answers: list[list[str]] = [[] for _ in groups]
    if answers is not None:
        of_answers = tfidf_words([" ".join(answers[i] for i in group) for group in groups], top_k)
    of_head: list[list[str]] = [[] for _ in groups]
    if modes is not None:
        of_head = head_words(modes, torch.from_numpy(centres), torch.from_numpy(vectors.mean(axis=0)), top_k)
    common = common_words(question)
    clusters = []
    for number, group in enumerate(groups):
        distance = np.linalg.norm(vectors[group] - centres[number], axis=1)
        nearest = group[np.argsort(distance, kind="stable")]
        different = list({texts[i]: int(i) for i in nearest[::-1]}.values())[::-1]
        telling = [word for word in of_answers[number] if word not in common]
        clusters.append(
            Cluster(
                members=tuple(group.tolist()),
                answer_words=tuple(of_answers[number]),
                text_words=tuple(of_texts[number]),
                head_words=tuple(of_head[number]),
                representatives=tuple(different[:REPRESENTATIVES]),
                words=tuple(telling or of_head[number] or of_texts[number]),
            )
        )
    return clusters


def _ordered(
    instruction: str,
    clusters: list[Cluster],
    vectors: np.ndarray,
    answers: tuple[str, ...] | None,
    labels: list[str] | None,
) -> Clustering:
    """Clusters with their labels, sorted."""
    if labels is not None:
        counts = [label_counts([labels[i] for i in one.members]) for one in clusters]
        clusters = [
            replace(one, components=count, entropy=entropy_bits(list(count.values())))
            for one, count in zip(clusters, counts)
        ]
    clusters.sort(key=lambda one: (-one.size if one.entropy is None else one.entropy, one.members))
    assignment = np.empty(len(vectors), dtype=int)
    for number, one in enumerate(clusters):
        assignment[list(one.members)] = number
    score = None if labels is None else v_measure(labels, assignment)
    return Clustering(instruction, tuple(clusters), assignment, vectors, answers, score)
