"""Losses of the five papers as pure, differentiable tensor functions.

Vectors are (N, D); a score is higher where two texts are more similar; every loss is a scalar. `scale`
multiplies a similarity, `temperature` divides it (scale = 1 / temperature). fp16 and bf16 vectors are
computed in fp32, also under autocast; fp32 and fp64 stay what they are. A wrong shape raises InputError.
Nothing here waits for the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import InputError

_P = ParamSpec("_P")


def _without_autocast(loss: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Under autocast a matrix product would run in half precision: three digits of a scaled similarity."""

    @functools.wraps(loss)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device = next((x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), "cpu")
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return loss(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return loss(*args, **kwargs)

    return wrapped


@_without_autocast
def cosent_loss(a: Tensor, b: Tensor, labels: Tensor, *, scale: float = 20.0) -> Tensor:
    """CoSENT: rank all pairs of a batch by cosine, in the order of their labels.

        s_i = scale * cos(a_i, b_i)
        L   = log(1 + sum over {(i, j): labels_i < labels_j} exp(s_i - s_j))

    a, b: (N, D); labels: (N,), larger = more similar. A sum over ordered pairs, not a mean: it grows with N.
    Exactly 0, with zero gradient, where all labels are equal.
    """
    a, b = _units("cosent_loss", a=a, b=b)
    _same_rows("cosent_loss", a, b)
    return _ranking("cosent_loss", scale * (a * b).sum(dim=1), labels)


@_without_autocast
def angle_loss(a: Tensor, b: Tensor, labels: Tensor, *, scale: float = 20.0, reduction: str = "sum") -> Tensor:
    """AnglE: CoSENT's ranking over the normalised quotient of two complex vectors.

    The halves of a vector are its real and its imaginary part, a = x + iy and b = u + iv, each (N, D/2):

        re  = (x*u + y*v) / (|a| |b|)          norms of the whole vectors
        im  = (y*u - x*v) / (|a| |b|)
        p_i = scale * |sum over the D entries of (re, im)|      reduction "sum"; "mean" divides by D
        L   = log(1 + sum over {(i, j): labels_i < labels_j} exp(p_i - p_j))

    a, b: (N, D) with an even D; labels: (N,), larger = more similar. p is a similarity, and it depends on
    the order of the two texts. Finite in value and gradient where a vector is 0: such a pair scores 0.
    """
    if reduction not in ("sum", "mean"):
        raise InputError(f"angle_loss: reduction must be 'sum' or 'mean', got {reduction!r}")
    a, b = _vectors("angle_loss", a=a, b=b)
    _same_rows("angle_loss", a, b)
    if a.shape[1] % 2:
        raise InputError(
            f"angle_loss: the dimension is {a.shape[1]}; it must be even, "
            "because the halves are the real and the imaginary part"
        )
    x, y = a.chunk(2, dim=1)
    u, v = b.chunk(2, dim=1)
    total = ((x * u + y * v) + (y * u - x * v)).sum(dim=1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    # The division happens where the norms are not 0 only: 0/0 would turn the gradient of the batch into NaN.
    scores = (total / norms.where(norms > 0, 1.0)).abs()
    if reduction == "mean":
        scores = scores / a.shape[1]
    return _ranking("angle_loss", scale * scores, labels)


@_without_autocast
def in_batch_negatives_loss(
    a: Tensor,
    b: Tensor,
    labels: Tensor,
    *,
    scale: float = 20.0,
    positive_threshold: float | None = None,
    same: Tensor | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """AnglE's symmetric in-batch negatives: every text looks for its partner among all 2N - 1 others.

        e = all rows of a, then all rows of b, L2-normalised                                (2N, D)
        L = 1/2N * sum over the rows r of positive pairs of
            -log( exp(scale e_r.e_partner(r)) / sum over {c != r} exp(scale e_r.e_c) )

    a, b: (N, D); labels: (N,). The mean runs over all 2N rows: those of other pairs count with 0, and their
    texts are negatives of everybody else. A pair is positive where label > positive_threshold; None means
    label >= 1, as in the original, which cuts labels to whole numbers. For labels 0 and 1 every threshold
    in [0, 1) is the same; for graded labels set one.

    same: bool (2N, 2N), True where text c duplicates a text of row r; such a c is left out of row r's sum,
    neither positive nor negative (`symmetric_duplicate_mask` makes it; a partner always stays).
    targets: (2N, 2N), weights of the positives of each row, for recipes in which these are not just the
    partners; replaces what labels and the threshold say. A weight on what is left out counts 0.
    """
    e = torch.cat(_units("in_batch_negatives_loss", a=a, b=b))
    _same_rows("in_batch_negatives_loss", a, b)
    n = len(a)
    labels = _labels("in_batch_negatives_loss", labels, a)
    partner = torch.arange(2 * n, device=e.device).roll(n)
    itself = torch.eye(2 * n, dtype=torch.bool, device=e.device)
    logits = (scale * (e @ e.T)).masked_fill(itself, float("-inf"))
    log_p = _leave_out("in_batch_negatives_loss", logits, same, partner).log_softmax(dim=1)
    if targets is not None:
        _shape("in_batch_negatives_loss", "targets", targets, (2 * n, 2 * n))
        # What is left out has log_p = -inf: it must give 0 whatever its weight.
        return -(log_p.masked_fill(log_p.isneginf(), 0) * targets).sum(dim=1).mean()
    positive = labels >= 1 if positive_threshold is None else labels > positive_threshold
    return -(log_p.gather(1, partner[:, None])[:, 0] * positive.repeat(2)).mean()


@_without_autocast
def contrastive_loss(
    query: Tensor,
    positive: Tensor,
    negative: Tensor | None = None,
    *,
    scale: float = 20.0,
    same: Tensor | None = None,
) -> Tensor:
    """Cross entropy of each query's positive among all positives and hard negatives of the batch.

        s_ij = scale * cos(query_i, document_j),   documents = positives, then negatives
        L    = mean over i of -log( exp(s_ii) / sum over j of exp(s_ij) )

    query, positive: (N, D); negative: (N, D), or (N*K, D) for K hard negatives per query. From the query to
    the documents only. The loss of SimCSE (two views of a text, no negatives), of LLM2Vec, and of AnglE on
    triplets.

    same: bool (N, N) or, with negatives, (N, N + N*K), True where document j duplicates a text of row i;
    such a document is left out of row i, neither positive nor negative (`duplicate_mask` makes it; the own
    positive always stays).
    """
    named = {"query": query, "positive": positive} | ({} if negative is None else {"negative": negative})
    q, *documents = _units("contrastive_loss", **named)
    _same_rows("contrastive_loss", query, positive)
    if negative is not None and (len(negative) == 0 or len(negative) % len(query)):
        raise InputError(
            f"contrastive_loss: {len(negative)} negatives for {len(query)} queries; give the same number for each query"
        )
    scores = scale * (q @ torch.cat(documents).T)
    target = torch.arange(len(q), device=q.device)
    return F.cross_entropy(_leave_out("contrastive_loss", scores, same, target), target)


@_without_autocast
def info_nce_loss(
    query: Tensor, passages: Tensor, *, temperature: float = 0.02, in_batch: bool = True, same: Tensor | None = None
) -> Tensor:
    """InfoNCE over passage groups, as BGE trains.

        s = query @ passages^T / temperature
        in_batch:      L = mean over i of -log softmax(s_i over all Q*G passages)[i * G]
        not in_batch:  L = mean over i of -log softmax(s_i over the own G passages)[0]

    query: (Q, D); passages: (Q*G, D), rows i*G .. i*G + G-1 belong to query i, its positive first. The score
    is the dot product as it is: pass L2-normalised vectors for the cosine. `in_batch=False` is for data whose
    other passages may be positives too (classification, clustering).

    same: bool (Q, Q*G), or (Q, G) over the own group, True where a passage duplicates a text of row i; it is left
    out of row i, neither positive nor negative (the own positive always stays).
    """
    query, passages = _vectors("info_nce_loss", query=query, passages=passages)
    size = _group_size("info_nce_loss", query, passages)
    first = torch.arange(len(query), device=query.device)
    if in_batch:
        scores, target = query @ passages.T / temperature, first * size
    else:
        scores, target = group_scores(query, passages, temperature=temperature), first * 0
    return F.cross_entropy(_leave_out("info_nce_loss", scores, same, target), target)


@_without_autocast
def group_scores(query: Tensor, passages: Tensor, *, temperature: float = 0.02) -> Tensor:
    """(Q, G): each query's dot product with its own G passages, divided by the temperature.

    Layout as in `info_nce_loss`; what `distillation_loss` takes.
    """
    query, passages = _vectors("group_scores", query=query, passages=passages)
    size = _group_size("group_scores", query, passages)
    return torch.einsum("qd,qgd->qg", query, passages.view(len(query), size, -1)) / temperature


@_without_autocast
def distillation_loss(scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Cross entropy against a teacher's distribution over each query's own passages.

        L = mean over i of -sum over g of softmax(teacher_scores_i)_g * log softmax(scores_i)_g

    scores, teacher_scores: (Q, G). The scores come already divided by the temperature (`group_scores`), the
    teacher's are used as they are. This is cross entropy, not KL: the two differ by the teacher's entropy,
    which has no gradient.
    """
    scores, teacher_scores = _vectors("distillation_loss", scores=scores, teacher_scores=teacher_scores)
    _same_rows("distillation_loss", scores, teacher_scores)
    return F.cross_entropy(scores, teacher_scores.softmax(dim=1))


def duplicate_mask(query_ids: Tensor, positive_ids: Tensor, negative_ids: Tensor | None = None) -> Tensor:
    """`same` for `contrastive_loss` from ids of the texts (equal id = equal text): (N, N) or (N, N + N*K).

    Document j duplicates row i if it is the text of query i or of positive i, or if it is the positive of
    another copy of query i (then it is a positive of i as well). ids: (N,), (N,), (N*K,) whole numbers.
    """
    documents = positive_ids if negative_ids is None else torch.cat([positive_ids, negative_ids])
    same = (query_ids[:, None] == documents) | (positive_ids[:, None] == documents)
    same[:, : len(query_ids)] |= query_ids[:, None] == query_ids
    return same


def symmetric_duplicate_mask(a_ids: Tensor, b_ids: Tensor) -> Tensor:
    """`same` for `in_batch_negatives_loss` from ids of the texts (equal id = equal text): (2N, 2N).

    Text c duplicates row r if it is the text of r or of r's partner. ids: (N,) whole numbers each.
    """
    ids = torch.cat([a_ids, b_ids])
    partner_ids = torch.cat([b_ids, a_ids])
    return (ids[:, None] == ids) | (partner_ids[:, None] == ids)


def _ranking(loss: str, scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum over {labels_i < labels_j} exp(scores_i - scores_j)); scores and labels: (N,)."""
    labels = _labels(loss, labels, scores)
    difference = scores[:, None] - scores[None, :]
    ordered = labels[:, None] < labels[None, :]
    # The padded 0 is the 1 under the logarithm; it also keeps a batch of equal labels finite.
    return F.pad(difference.masked_fill(~ordered, float("-inf")).flatten(), (1, 0)).logsumexp(dim=0)


def _leave_out(loss: str, scores: Tensor, same: Tensor | None, target: Tensor) -> Tensor:
    """The scores without the duplicates in `same`, except each row's own target."""
    if same is None:
        return scores
    _shape(loss, "same", same, tuple(scores.shape))
    return scores.masked_fill(same.bool().scatter(1, target[:, None], False), float("-inf"))


def _vectors(loss: str, **named: Tensor) -> list[Tensor]:
    """The arguments in their common precision, fp32 at least; InputError unless all are (rows, D)."""
    _vector_shapes(loss, **named)
    wide = functools.reduce(torch.promote_types, (x.dtype for x in named.values()), torch.float32)
    return [x.to(wide) for x in named.values()]


def _units(loss: str, **named: Tensor) -> list[Tensor]:
    """As `_vectors`, L2-normalised; a zero row stays 0."""
    units = []
    for given, wide in zip(named.values(), _vectors(loss, **named), strict=True):
        if torch.finfo(given.dtype).bits < 32:
            # The gradient of a zero row is about 1e12 (as in the original), which is no number in fp16.
            wide = wide.where((given != 0).any(dim=1, keepdim=True), wide.detach())
        units.append(F.normalize(wide, dim=1))
    return units


def _vector_shapes(loss: str, **named: Tensor) -> None:
    for name, x in named.items():
        if x.ndim != 2 or not len(x) or not x.is_floating_point():
            raise InputError(
                f"{loss}: {name} must be a floating (rows, D) tensor with at least one row, "
                f"got {tuple(x.shape)} {x.dtype}"
            )
    if len({x.shape[1] for x in named.values()}) > 1:
        shapes = ", ".join(f"{name} is {tuple(x.shape)}" for name, x in named.items())
        raise InputError(f"{loss}: {shapes}; the second dimension must be the same")


def _same_rows(loss: str, first: Tensor, second: Tensor) -> None:
    if len(first) != len(second):
        raise InputError(f"{loss}: {len(first)} rows against {len(second)}; row i of one belongs to row i of the other")


def _labels(loss: str, labels: Tensor, rows: Tensor) -> Tensor:
    _shape(loss, "labels", labels, (len(rows),))
    return labels.to(rows.device)


def _shape(loss: str, name: str, x: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(x.shape) != expected:
        raise InputError(f"{loss}: {name} must be {expected}, got {tuple(x.shape)}")


def _group_size(loss: str, query: Tensor, passages: Tensor) -> int:
    if len(passages) < len(query) or len(passages) % len(query):
        raise InputError(
            f"{loss}: {len(passages)} passages for {len(query)} queries; each query needs a group of the "
            "same size, its positive first"
        )
    return len(passages) // len(query)
