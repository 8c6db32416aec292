"""Names of the released run_simcse.py and run_supervised.py (and of the seed's programs) that mean something here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from common.reading import read_json

logger = logging.getLogger(__name__)

_ALWAYS = "that is how it is always done"
_BATCH = "validation batches are as large as those of training"
_HUB_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"

ALIASES = {
    "peft_addr": "peft_model_name_or_path",
    "dataset_file_path": "train_name_or_path",
    "train_file": "train_name_or_path",
    "validation_file": "valid_name_or_path",
    "max_train_samples": "limit",
    "torch_dtype": "load_kbit",
    "dataloader_num_workers": "workers",
    "pooling_strategy": "pooling_mode",
    "loss_cls": "loss_class",
}
DROPPED = {
    "dataset_name": "the data are those of --train_name_or_path",
    "overwrite_output_dir": "a finished or broken-off training of the same recipe is taken up; --resume 0 starts anew",
    "resume_from_checkpoint": "the last checkpoint in --output_dir is found by itself",
    "save_only_model": "checkpoints are whole, so that a training can go on from them",
    "remove_unused_columns": _ALWAYS,
    "disable_tqdm": "progress is shown where there is a terminal",
    "do_eval": "validation is on where --valid_name_or_path is given",
    "per_device_eval_batch_size": _BATCH,
    "per_gpu_eval_batch_size": _BATCH,
    "ddp_find_unused_parameters": "all trained parameters are used",
    "gradient_checkpointing_kwargs": "gradient checkpointing is the non-reentrant one",
    "cache_dir": "set HF_HOME",
    "token": _HUB_LOGIN,
    "use_auth_token": _HUB_LOGIN,
    "trust_remote_code": "code from the hub is never run",
    "device_map": "say where with --device",
}
REFUSED: dict[str, str] = {}
VALUES: dict[str, Any] = {"torch_dtype": {"bfloat16": "16", "float16": "16", "float32": "32", "auto": "none"}}


def over_released_defaults(argv: list[str], defaults: Path) -> list[str]:
    """The command line, over the released script's defaults where it begins with one of its JSON configurations.

    Such a file names its data by `dataset_name` or `dataset_file_path`, and says nothing of what the script does
    by default; over our defaults it would train something else without a word.
    """
    if not argv or not argv[0].endswith(".json") or not Path(argv[0]).is_file():
        return argv
    found = read_json(argv[0])
    if not isinstance(found, dict) or not found.keys() & {"dataset_name", "dataset_file_path"}:
        return argv
    logger.warning(
        "%s: a configuration of the released script; its defaults are taken, from %s", argv[0], defaults.name
    )
    return ["--config", str(defaults), "--config", argv[0], *argv[1:]]
