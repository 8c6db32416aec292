"""Unsupervised SimCSE (LLM2Vec step 3): a text against itself under other dropout, other texts as negatives."""

from __future__ import annotations

from common.contrastive_objective import ContrastiveObjective
from common.data import Collator, RowList
from common.encoder import Encoder
from common.errors import InputError
from common.model_names import hub_reachable
from common.pooling import POOL_EVERYTHING
from common.prompts import Template
from common.self_pairs import self_pairs, views_differ
from common.training import fit as fit_shared
from llm2vec.corpus import Texts, read_texts, shipped_texts
from llm2vec.fit import reader_of
from llm2vec.recipe import SimcseConfig
from llm2vec.start import load_start

WIKI1M, WIKI1M_FILE = "princeton-nlp/datasets-for-simcse", "wiki1m_for_simcse.txt"


def simcse_rows(config: SimcseConfig) -> RowList:
    """Each text twice, as query and as positive; blank texts are left out.

    Raises:
        InputError: missing data, or no text.
    """
    found = _texts(config)
    pairs = self_pairs(found.texts, found.source)
    pairs.rows = pairs.rows[: config.limit]
    return pairs


def _texts(config: SimcseConfig) -> Texts:
    if config.shipped:
        return shipped_texts()
    if config.train_name_or_path:
        return read_texts(
            config.train_name_or_path,
            data_dir=config.data_dir,
            split=config.train_split_name,
            subset=config.train_subset_name,
            rename=config.rename,
        )
    if not hub_reachable():
        raise InputError("the hub does not answer, and Wiki1M is there; give --train_name_or_path FILE, or --shipped")
    from huggingface_hub import hf_hub_download

    return read_texts(hf_hub_download(WIKI1M, WIKI1M_FILE, repo_type="dataset"))


def load_simcse(config: SimcseConfig) -> Encoder:
    """The encoder that a recipe starts from, with dropout on its attention probabilities while it trains.

    Raises:
        InputError: a model without such dropout; as `llm2vec.start.load_start`.
    """
    from transformers import AutoConfig

    encoder = load_start(config, attention_dropout=config.simcse_dropout)
    # Modules have read it by now; weights that are saved whole must not carry it on to other trainings.
    source = encoder.backbone.source
    encoder.backbone.config.attention_dropout = AutoConfig.from_pretrained(
        source.path, **source.load_options
    ).attention_dropout
    return encoder


def fit_simcse(encoder: Encoder, rows: RowList, config: SimcseConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder by SimCSE, in place; settings as in `common.training.fit`.

        L = mean over i of the cross entropy of scale * cos(h_i, h'_j), over all j, against i

    h and h' are the vectors of two passes of the same texts, which only dropout sets apart. Equal texts of a
    batch are no negatives of each other (`filter_duplicate`).

    Args:
        encoder: of `load_simcse`.
        rows: of `simcse_rows`.
        config: the recipe; `simcse_chat_template` decides which template the texts are put into, and the compat
            name `llm2vec:simcse-pool-all` pools over all positions of a batch, padding on the left included.
        valid: rows of pairs or triplets.

    Raises:
        InputError: the two views are equal, or compat and settings that exclude each other.
    """
    check_views(encoder, rows.rows[0]["query"], config)
    everything = POOL_EVERYTHING in config.compat
    if everything and (encoder.pooling != "mean" or config.grad_cache_tokens):
        raise InputError(f"--compat {POOL_EVERYTHING}: goes with --pooling_mode mean, and not with --grad_cache_tokens")
    reader = reader_of(encoder)
    if not config.simcse_chat_template:
        reader.templates = {"text": Template()}
    collator = Collator(reader, seed=config.seed, pad_side="left" if everything else "right")
    return fit_shared(
        encoder,
        rows,
        ContrastiveObjective(config.loss_scale),
        config,
        valid=valid,
        collator=collator,
        stop_after_steps=config.stop_after_n_steps,
    )


def check_views(encoder: Encoder, text: str, config: SimcseConfig) -> None:
    """Make sure that two passes of one text differ in training, as far as `simcse_dropout` is to see to it.

    A fresh adapter is zero, so at the start its own dropout has no effect.

    Raises:
        InputError: they do not.
    """
    if not config.simcse_dropout:
        return
    if not views_differ(encoder, text):
        raise InputError(
            f"--simcse_dropout {config.simcse_dropout}: {type(encoder.backbone.model).__name__} has no dropout on "
            "attention probabilities here, both views of a text are equal; try another --attn_implementation"
        )
