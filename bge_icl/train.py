"""BGE-ICL: train a causal LLM on instructed queries with few-shot examples from their own batch."""

from __future__ import annotations

from typing import Any

from bge_icl.recipe import IclConfig
from bge_icl.released_flags import ALIASES, DROPPED, REFUSED, VALUES
from common import cli
from common.errors import InputError
from common.registry import check_compat


def main(config: IclConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not (config.model_name_or_path or config.pretrained_lora_path):
        raise InputError("missing: --model_name_or_path (a folder, a short name such as smollm2-135m, or a hub id)")
    if not config.train_data:
        raise InputError("missing: --train_data (files, folders of files, or hub data sets such as cfli/bge-e5data)")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    from bge_icl.fit import fit
    from bge_icl.start import load_start
    from bge_icl.train_data import read_data
    from common.optional_packages import installed_reports

    config.report_to = installed_reports(config.report_to)
    options: dict[str, Any] = {"data_dir": config.data_dir, "prompt": config.prompt, "limit": config.limit}
    rows = read_data(config.train_data, **options)
    valid = read_data([config.valid_name_or_path], **options) if config.valid_name_or_path else None
    fit(load_start(config), rows, config, valid=valid)


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    cli.run(main, IclConfig, description=__doc__, **OPTIONS)
