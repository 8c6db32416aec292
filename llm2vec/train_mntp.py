"""LLM2Vec step 1: teach a language model bidirectional attention by masked next-token prediction."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from common import cli
from common.errors import InputError
from common.registry import check_compat
from llm2vec import released_flags
from llm2vec.mntp_recipe import WIKITEXT, MntpConfig

if TYPE_CHECKING:
    from llm2vec.corpus import Texts

logger = logging.getLogger(__name__)


def main(config: MntpConfig) -> None:
    """Load, train, save, and say how well masked tokens are predicted."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    from common.model_names import resolve
    from common.optional_packages import installed_attention, installed_reports
    from common.train_program import backbone_options
    from llm2vec.encoder import load
    from llm2vec.mntp import blocks_of, fit_mntp, measured

    resolve(config.model_name_or_path)  # a wrong name is said before the text is read
    config.report_to = installed_reports(config.report_to)
    texts, held_out = corpus(config)
    usable = dataclasses.replace(config, attn_implementation=installed_attention(config.attn_implementation))
    encoder = load(config.model_name_or_path, revision=config.model_revision, **backbone_options(usable))
    blocks = blocks_of(texts, encoder, config, config.limit)
    valid = None if held_out is None else blocks_of(held_out, encoder, config, config.max_eval_samples)
    logger.info("%s: %s tokens in %d blocks", blocks.source, f"{blocks.tokens:,}", len(blocks))
    fit_mntp(encoder, blocks, config, valid=valid)
    found = measured(config.output_dir)
    for when, one in (("before", found[:1]), ("after", found[-1:])):
        for entry in one:
            print(
                f"{when}: masked accuracy {entry['accuracy']:.4f}, loss {entry['loss']:.4f} "
                f"({entry['tokens']:,} masked tokens, step {entry['step']})"
            )


def corpus(config: MntpConfig) -> tuple[Texts, Texts | None]:
    """The text to train on, and that to validate on, if any: a file, a split of the hub data set, or the first 5%."""
    from llm2vec.corpus import has_validation_split, hold_out, read_texts, shipped_texts

    subset = config.train_subset_name
    options: dict[str, Any] = {"data_dir": config.data_dir, "rename": config.rename}
    if config.train_name_or_path:
        texts = read_texts(config.train_name_or_path, split=config.train_split_name, subset=subset, **options)
    else:
        texts = shipped_texts()
    if config.eval_strategy == "no":
        return texts, None
    if config.valid_name_or_path:
        return texts, read_texts(config.valid_name_or_path, split=config.valid_split_name, **options)
    name = config.train_name_or_path
    if name and has_validation_split(name, subset, config.data_dir):
        return texts, read_texts(name, split="validation", subset=subset, **options)
    return hold_out(texts, config.validation_split_percentage)


# Names of the released run_mntp.py (and of the seed's program) that mean something here, besides those of all steps.
_OWN_ALIASES = {
    "model_name": "model_name_or_path",
    "dataset_name": "train_name_or_path",
    "dataset_config_name": "train_subset_name",
    "data_path": "train_name_or_path",
    "per_device_eval_batch_size": "eval_batch_size",
}
_ALWAYS = "that is how models are always loaded"
_OWN_DROPPED = {
    "do_eval": "validation is on unless --eval_strategy no",
    "overwrite_cache": "texts are tokenised at each start",
    "preprocessing_num_workers": "the tokenizer uses all cores",
    "pad_to_max_length": "padding is never computed on",
    "use_fast_tokenizer": _ALWAYS,
    "low_cpu_mem_usage": _ALWAYS,
}
_SCRATCH = "a model is adapted here, not trained from scratch"
FIELDS = {field.name for field in dataclasses.fields(MntpConfig)}
ALIASES = {old: new for old, new in {**released_flags.ALIASES, **_OWN_ALIASES}.items() if new in FIELDS}
DROPPED = {
    name: why
    for name, why in {**released_flags.DROPPED, **_OWN_DROPPED}.items()
    if name not in ALIASES and name not in FIELDS
}
REFUSED = {
    **released_flags.REFUSED,
    **dict.fromkeys(("model_type", "config_overrides"), _SCRATCH),
    **dict.fromkeys(("config_name", "tokenizer_name"), "the model's own is used"),
}
VALUES: dict[str, Any] = {**released_flags.VALUES, "dataset_name": {"wikitext": WIKITEXT}}

# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    cli.run(main, MntpConfig, description=__doc__, **OPTIONS)
