"""SimCSE (Gao et al. 2021, arXiv 2104.08821), the baseline of contrastive training: no prompt, no new attention.

"simcse" is the supervised one (a query against its positive, with hard negatives), "simcse-unsupervised" takes each
text against itself under other dropout. Left out is the paper's MLP on top of [CLS] (dropped there after unsupervised
training, kept after supervised): it would be the one part of a model that plain loading does not know.
"""

from __future__ import annotations

from typing import Any

from common.backbone import load_backbone
from common.contrastive_objective import ContrastiveObjective
from common.data import RowList, RowStream
from common.encoder import Encoder
from common.errors import InputError
from common.pairs import positive_pairs
from common.prompts import Template
from common.recipe import TrainConfig
from common.registry import check_compat
from common.self_pairs import attention_dropout, self_pairs, views_differ
from common.training import fit as fit_shared

DEFAULT_MODEL = "smollm2-135m"
TEMPERATURE = 0.05  # the paper's Table D.1
DECODER_DROPOUT = 0.3  # of attention probabilities, as LLM2Vec trains SimCSE; encoders keep their own (0.1)


def load(
    model: str | None = None,
    *,
    template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Any trunk, read without a prompt: the first token of an encoder, the mean over the tokens of a decoder.

    A decoder has no [CLS], and without a prompt its last token is about the word that is to come.

    Args:
        model: any model name; None: the embedded default.
        template: a prompt with {text}, for comparison; default: none.
        pooling: a strategy of `common.pooling`.
        max_length: tokens; default 512 (the paper trains with 32).
        normalize: L2-normalise always.
        compat: there are no switches of its own.
        backbone_options: of `common.backbone.load_backbone`.
    """
    backbone = load_backbone(model or DEFAULT_MODEL, **backbone_options)
    return Encoder(
        backbone,
        method="simcse",
        template=Template(template) if template else None,
        pooling=pooling or ("mean" if backbone.is_decoder else "cls"),
        max_length=max_length or 512,
        normalize=normalize,
        compat=check_compat(compat),
    )


def load_unsupervised(model: str | None = None, **options: Any) -> Encoder:
    """As `load`, under the name of the unsupervised method."""
    encoder = load(model, **options)
    encoder.method = "simcse-unsupervised"
    return encoder


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Supervised SimCSE, in place: pairs or triplets; of labelled pairs those with a high label.

        L_i = -log( exp(cos(h_i, h_i+) / t) / sum over j of [exp(cos(h_i, h_j+) / t) + exp(cos(h_i, h_j-) / t)] )

    Raises:
        InputError: labelled pairs from a stream, or none that is positive.
    """
    return fit_shared(encoder, _without_labels(rows), _objective(), config, valid=valid and _without_labels(valid))


def fit_unsupervised(
    encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None
) -> Encoder:
    """Unsupervised SimCSE, in place: every text of the rows against itself; which texts went together does not count.

    The validation loss is the supervised one: without dropout a text equals itself.

    Raises:
        InputError: rows from a stream, or two views of a text are equal in this model.
    """
    if not isinstance(rows, RowList):
        raise InputError(f"{rows.source}: its texts can't be streamed here; leave out --streaming")
    pairs = self_pairs(texts_of(rows), f"{rows.source}, each text with itself")
    with attention_dropout(encoder.backbone.model, DECODER_DROPOUT):
        if not views_differ(encoder, pairs.rows[0]["query"]):
            name = type(encoder.backbone.model).__name__
            raise InputError(
                f"{encoder.backbone.source.name}: {name} has no dropout that sets two views of a text apart"
            )
        return fit_shared(encoder, pairs, _objective(), config, valid=valid and _without_labels(valid))


def texts_of(rows: RowList) -> list[str]:
    """The distinct texts of rows, in their order; of several positives or negatives all."""
    columns = [name for name in rows.columns if name != "label"]
    values = (row[name] for row in rows.rows for name in columns)
    return list(dict.fromkeys(text for value in values for text in ([value] if isinstance(value, str) else value)))


def _objective() -> ContrastiveObjective:
    return ContrastiveObjective(1 / TEMPERATURE)


def _without_labels(rows: Any) -> Any:
    if "label" not in rows.columns:
        return rows
    if not isinstance(rows, RowList):
        raise InputError(f"{rows.source}: labelled pairs can't be streamed here; leave out --streaming")
    return positive_pairs(rows)
