"""Whether a folder holds a training to go on with, and whether it is of the same recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.io import read_json
from common.recipe import TrainConfig

logger = logging.getLogger(__name__)

# Settings that may change between a run and its resumption without changing what it computes.
FREE = {"output_dir", "resume", "device", "merge", "dry_run", "workers", "data_dir"}
FREE |= {"logging_steps", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo"}
FREE |= {"save_strategy", "save_steps", "save_minutes", "save_total_limit", "eval_strategy", "eval_steps"}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; a half one, left by a kill, has no readable trainer_state.json."""
    if not folder.is_dir():
        return None
    numbered = [p for p in folder.glob("checkpoint-*") if p.name.rsplit("-", 1)[1].isdigit()]
    for checkpoint in sorted(numbered, key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True):
        with contextlib.suppress(OSError, json.JSONDecodeError):
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            return checkpoint
    return None


def forget_run(folder: Path) -> None:
    """Take away the checkpoints of an earlier run, which a later resume would mistake for this one's."""
    for old in folder.glob("checkpoint-*"):
        logger.warning("%s: removed (--resume 0)", old)
        shutil.rmtree(old)
    (folder / "training.json").unlink(missing_ok=True)


def recipe_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what a training computes, as plain data."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in FREE}
    return json.loads(json.dumps(values, default=str))


def check_same_recipe(folder: Path, checkpoint: Path | None, config: TrainConfig) -> bool:
    """Whether the training in `folder` is finished.

    Raises:
        InputError: what is there is of another recipe; going on would mix the two.
    """
    final = folder / "training.json"
    source = final if final.is_file() else checkpoint / "training.json" if checkpoint else None
    if source is None or not source.is_file():
        return False
    saved = read_json(source)
    was, now = saved.get("recipe", {}), recipe_of(config)
    changed = [
        f"{k} {was.get(k)!r} -> {now.get(k)!r}" for k in sorted(was.keys() | now.keys()) if was.get(k) != now.get(k)
    ]
    if changed:
        raise InputError(
            f"{folder}: holds a training of another recipe ({'; '.join(changed[:3])}); "
            "give another --output_dir, or --resume 0 to start anew"
        )
    return bool(saved.get("finished"))
