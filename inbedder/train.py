"""Train InBedder: a language model learns to answer questions about texts; its embedding is where the answer starts."""

from __future__ import annotations

from typing import Any

from common import cli
from common.errors import InputError
from common.registry import check_compat
from inbedder.recipe import InbedderConfig


def main(config: InbedderConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.train_name_or_path:
        raise InputError("missing: --train_name_or_path (rows of instruction, input, output), as --data_path")
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    import dataclasses

    from common.model_names import resolve
    from common.optional_packages import installed_attention, installed_reports
    from common.train_program import backbone_options
    from inbedder.encoder import load
    from inbedder.fit import fit, measured
    from inbedder.qa_data import load_qa

    resolve(config.model_name_or_path)  # a wrong name is said before the rows are read
    config.report_to = installed_reports(config.report_to)
    options: dict[str, Any] = {"data_dir": config.data_dir, "rename": config.rename}
    rows = load_qa(
        config.train_name_or_path,
        split=config.train_split_name,
        subset=config.train_subset_name,
        limit=config.limit,
        **options,
    )
    valid = None
    if config.valid_name_or_path:
        valid = load_qa(
            config.valid_name_or_path, split=config.valid_split_name, subset=config.valid_subset_name, **options
        )
    usable = dataclasses.replace(config, attn_implementation=installed_attention(config.attn_implementation))
    encoder = load(
        config.model_name_or_path,
        template=config.template,
        mask_length=config.mask_length,
        max_length=config.max_length,
        **backbone_options(usable),
    )
    fit(encoder, rows, config, valid=valid)
    found = measured(config.output_dir)
    for when, one in (("before", found[:1]), ("after", found[-1:])):
        for entry in one:
            print(
                f"{when}: answer tokens predicted right {entry['accuracy']:.4f}, loss {entry['loss']:.4f} "
                f"({entry['tokens']:,} tokens, step {entry['step']})"
            )


CONFIG = InbedderConfig
# Names of the released alpaca_train/train.py, and short ones, that stand for one of ours.
ALIASES = {
    "model": "model_name_or_path",
    "train_data": "train_name_or_path",
    "data_path": "train_name_or_path",
    "valid_data": "valid_name_or_path",
    "output": "output_dir",
    "max_train_tokens": "max_tokens",
    "use_flash_attention_2": "attn_implementation",
    "dataloader_num_workers": "workers",
}
DROPPED = {
    "cache_dir": "set HF_HOME",
    "tf32": "precision is that of --bf16, --fp16, or fp32",
    "do_eval": "validation is on where --valid_name_or_path is given",
    "per_device_eval_batch_size": "validation batches are as large as those of training",
    "per_gpu_eval_batch_size": "validation batches are as large as those of training",
    "remove_unused_columns": "that is how it is always done",
    "ddp_find_unused_parameters": "all trained parameters are used",
    "fsdp_transformer_layer_cls_to_wrap": "--fsdp finds the layers by itself",
}
VALUES: dict[str, Any] = {
    "use_flash_attention_2": {
        **dict.fromkeys(("1", "true", "True"), "flash_attention_2"),
        **dict.fromkeys(("0", "false", "False"), "none"),
    }
}
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "values": VALUES}

if __name__ == "__main__":
    cli.run(main, InbedderConfig, description=__doc__, **OPTIONS)
