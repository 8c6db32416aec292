"""Train BeLLM: bidirectional from a layer on, AnglE's losses, LoRA or QLoRA; first and second stage."""

from __future__ import annotations

import logging
from typing import Any

from bellm.recipe import BellmConfig
from bellm.start_index import start_index
from common import angle_recipe, cli
from common.errors import InputError
from common.registry import check_compat

logger = logging.getLogger(__name__)


def main(config: BellmConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    config.bidirectional_from = start_index(config.bidirectional_from) if config.apply_billm else -1
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.train_name_or_path:
        raise InputError("missing: --train_name_or_path (a file, shipped:triplets, or a hub data set)")
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    from bellm.encoder import load
    from bellm.fit import fit
    from bellm.model_flags import check_family
    from common.model_flags import check_is_llm
    from common.train_program import backbone_options, training_rows

    if config.pooling_strategy not in (None, "last"):
        logger.warning(
            "--pooling_strategy %s is taken; the released code pools the last token of an LLM whatever the flag says",
            config.pooling_strategy,
        )
    rows, valid = training_rows(config)
    encoder = load(
        config.model_name_or_path,
        bidirectional_from=config.bidirectional_from,
        template=config.prompt,
        pooling=config.pooling_strategy,
        max_length=config.max_length,
        **backbone_options(config),
    )
    check_is_llm(encoder, config.is_llm)
    check_family(encoder, config.billm_model_class)
    logger.info("attention: %s", encoder.info.attention)
    fit(encoder, rows, config, valid=valid)


CONFIG = BellmConfig
ALIASES = {
    **angle_recipe.ALIASES,
    "prompt_template": "prompt",
    "text_prompt": "prompt",
    "start_bilayer_index": "bidirectional_from",
}
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {
    "aliases": ALIASES,
    "dropped": angle_recipe.DROPPED,
    "refused": angle_recipe.REFUSED,
}

if __name__ == "__main__":
    cli.run(main, BellmConfig, description=__doc__, **OPTIONS)
