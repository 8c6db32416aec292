"""LLM2Vec's supervised step: contrastive training with hard negatives, an instruction per data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.errors import InputError
from common.registry import check_compat
from llm2vec.recipe import SupervisedConfig
from llm2vec.released_flags import ALIASES, DROPPED, REFUSED, VALUES, over_released_defaults

if TYPE_CHECKING:
    from common.data import RowList, RowStream


def main(config: SupervisedConfig) -> None:
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
    from llm2vec.fit import fit
    from llm2vec.start import load_start

    config.report_to = installed_reports(config.report_to)
    rows, valid = supervised_rows(config), validation_rows(config)
    fit(load_start(config), rows, config, valid=valid)


def supervised_rows(config: SupervisedConfig) -> RowList | RowStream:
    """The rows to train on: a folder with one file per data set (default: E5's), or one file or hub data set.

    Raises:
        InputError: missing or malformed data.
    """
    from common.data import RowList
    from common.train_program import training_rows
    from llm2vec.e5_data import data_folder, download_e5, folder_rows, with_pattern

    pattern = config.train_instruction_format
    name = config.train_name_or_path
    folder = data_folder(name, config.data_dir) if name else download_e5()
    if folder:
        if config.streaming:
            raise InputError(f"--streaming: not with a folder of data sets ({folder}); leave it out")
        return folder_rows(
            folder,
            pattern=pattern,
            doc_instruction=config.train_doc_instruction,
            shares=config.sample_shares,
            rename=config.rename,
            limit=config.limit,
            seed=config.seed,
        )
    rows = training_rows(config)[0]
    if pattern is None:
        return rows
    if not isinstance(rows, RowList):
        raise InputError("--train_instruction_format: not with --streaming")
    return with_pattern(rows, pattern)


RELEASED = Path(__file__).with_name("released_supervised.yaml")
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    words = over_released_defaults(sys.argv[1:], RELEASED)
    cli.run(main, SupervisedConfig, words, description=__doc__, **OPTIONS)
