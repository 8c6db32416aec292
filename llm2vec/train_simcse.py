"""LLM2Vec step 3: unsupervised SimCSE, a text against itself under other dropout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common import cli
from common.errors import InputError
from common.registry import check_compat
from llm2vec.recipe import SimcseConfig
from llm2vec.released_flags import ALIASES, DROPPED, REFUSED, VALUES, over_released_defaults


def main(config: SimcseConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not (config.model_name_or_path or config.peft_model_name_or_path or config.pretrained_lora_path):
        raise InputError("missing: --model_name_or_path")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    from common.optional_packages import installed_reports
    from common.train_program import validation_rows
    from llm2vec.simcse import fit_simcse, load_simcse, simcse_rows

    config.report_to = installed_reports(config.report_to)
    rows, valid = simcse_rows(config), validation_rows(config)
    fit_simcse(load_simcse(config), rows, config, valid=valid)


RELEASED = Path(__file__).with_name("released_simcse.yaml")
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    words = over_released_defaults(sys.argv[1:], RELEASED)
    cli.run(main, SimcseConfig, words, description=__doc__, **OPTIONS)
