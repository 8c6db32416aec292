"""Reader for MTEB's copies of the STS tasks on the Hugging Face hub.

Only the `mteb` protocol. Pairs come without subsets, and the text of STS12-16 is tokenised and lower-cased
(see `senteval.tasks`). Revisions are those that mteb 2.26 itself reads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from senteval.sources import Rows, jsonl_stems
from senteval.tasks import WHOLE, PairTask, SentEvalError

HUB_DATASETS = {
    "STS12": ("mteb/sts12-sts", "a0d554a64d88156834ff5ae9920b964011b16384"),
    "STS13": ("mteb/sts13-sts", "7e90230a92c190f1bf69ae9002b8cea547a64cca"),
    "STS14": ("mteb/sts14-sts", "6031580fec1f6af667f0bd2da0a551cf4f0b2375"),
    "STS15": ("mteb/sts15-sts", "ae752c7c21bf194d8b67fd573edf7ae58183cbe3"),
    "STS16": ("mteb/sts16-sts", "4d8694f8f0e0100860b497b999b3dbed754a0513"),
    "STSBenchmark": ("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831"),
    "SICK-R": ("mteb/sickr-sts", "20a6d6f312dd54037fe07a32d58e5e168867909d"),
}
"""Task -> data set on the hub and its revision."""

_SECONDS = 2.0


@cache
def hub_answers() -> bool:
    """Whether the hub answers within two seconds; asked once per process."""
    from datasets import config
    from huggingface_hub.utils import get_session

    if config.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(config.HF_ENDPOINT, timeout=_SECONDS)
            answered.set()
        except Exception:  # no network has many faces (name, proxy, certificate); all mean: not now
            return

    # A thread, because the time limit of a request does not cover the look-up of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return answered.is_set()


@contextmanager
def _cache_only_if_unreachable() -> Iterator[None]:
    """`datasets` reads only its cache while the hub doesn't answer: no 25 seconds of retries per task."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or not hub_answers()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def read_hub(name: str, protocol: str) -> PairTask:
    """One whole task from the hub, or from the cache of `datasets` where the hub does not answer.

    Raises:
        SentEvalError: the protocol is `senteval`; the hub does not answer and the task is not cached; or the
            data set does not have the columns sentence1, sentence2, score.
    """
    if protocol != "mteb":
        raise SentEvalError(
            f"{name} ({protocol} protocol) needs SentEval's own files, which the hub does not have: run "
            "`bash scripts/download_data.sh data`, then give --data_dir data"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise SentEvalError(
            f"{name}: reading the hub needs the package `datasets` ({error}); install it, or give --data_dir"
        ) from error
    repo, revision = HUB_DATASETS[name]
    try:
        with _cache_only_if_unreachable():
            data = load_dataset(repo, split="test", revision=revision)
    except Exception as error:  # load_dataset raises errors of many libraries; each means: no data
        reason = str(error).split("\n")[0]
        raise SentEvalError(
            f"{name} ({protocol} protocol) can't be read from the hub data set {repo} ({reason}); connect to "
            f"the network, or give --data_dir with {jsonl_stems(name, protocol)[0]}.jsonl(.gz)"
        ) from error
    columns = ("sentence1", "sentence2", "score")
    missing = [column for column in columns if column not in data.column_names]
    if missing:
        raise SentEvalError(f"{repo}@{revision}: no column {', '.join(missing)}; it has {data.column_names}")
    rows = Rows(name, protocol)
    for number, row in enumerate(data, start=1):
        rows.add(f"{repo}, row {number}", WHOLE, *(row[column] for column in columns))
    return rows.task(f"hub: {repo}@{revision}")
