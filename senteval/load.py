"""Load one STS task or all seven, from a folder or the hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from senteval.hub import read_hub
from senteval.sources import read_folder
from senteval.tasks import OFFICIAL_PAIRS, PairTask, check_protocol, task_name, task_names

logger = logging.getLogger(__name__)


def load_task(
    name: str,
    protocol: str,
    data_dir: str | Path | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> PairTask:
    """One task in one protocol.

    Args:
        name: one of `TASKS` (any case; `STS-B` and `SICKRelatedness` are understood).
        protocol: "senteval" or "mteb".
        data_dir: a folder with JSON Lines or SentEval's own files (see `senteval.sources`). If None, the
            folder that the environment variable EMBED_DATA names, and if that is not set either, the hub. A
            folder that is named but lacks the task is an error; the hub is never asked in its place.
        limit: keep a random sample of so many pairs; `PairTask.index` tells which.
        seed: of that sample.

    Raises:
        SentEvalError: the data is missing or malformed, or an argument is wrong.
    """
    name, protocol = task_name(name), check_protocol(protocol)
    folder = data_dir or os.environ.get("EMBED_DATA")
    task = read_folder(folder, name, protocol) if folder else read_hub(name, protocol)
    if not task.complete:
        logger.warning(
            "%s (%s protocol): %d pairs in %s are not the official %d; no published score compares with this",
            name,
            protocol,
            len(task),
            task.source,
            OFFICIAL_PAIRS[protocol][name],
        )
    return task.sample(limit, seed)


def load_suite(
    protocol: str,
    data_dir: str | Path | None = None,
    *,
    tasks: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, PairTask]:
    """Name -> task, for all tasks of a protocol or those named, in the order of the papers' tables.

    Arguments and errors are those of `load_task`; everything is loaded, and so checked, before it returns.
    """
    wanted = set(task_names(protocol) if tasks is None else map(task_name, tasks))
    return {
        name: load_task(name, protocol, data_dir, limit=limit, seed=seed)
        for name in task_names(protocol)
        if name in wanted
    }
