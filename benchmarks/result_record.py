"""What every result file says beside its scores: the encoder, the machine, the command and the cost."""

from __future__ import annotations

import datetime
import resource
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results import SCHEMA
from common.environment import command_line, environment

if TYPE_CHECKING:
    from common.encoder_info import EncoderInfo


def result_record(
    encoder: Mapping[str, Any],
    *,
    task: str,
    suite: str,
    protocol: str,
    metric: str,
    score: float,
    scores: Mapping[str, Any],
    n: int,
    data: Mapping[str, Any],
    seed: int,
    texts: int,
    tokens: int,
    seconds: float,
    limit: int | None = None,
    index: Iterable[int] | None = None,
    compat: Iterable[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """The JSON of one task's result (`benchmarks.results.Result` tells the fields), to be written by `write_result`.

    Args:
        encoder: `EncoderInfo.to_dict()`, or as much for what is no encoder; with its `method` and `model`.
        score: x 100, in full precision; scores: the same, and whatever else was measured.
        n: pairs (or texts) that were scored; limit, index: of a run on part of them.
        data: at least `source` and `sha256`.
        texts, tokens, seconds: what was encoded, and how long it took.
        more: keys that this kind of task has beside the common ones, or in their place.
    """
    return {
        "schema": SCHEMA,
        "task": task,
        "suite": suite,
        "protocol": protocol,
        "metric": metric,
        "score": score,
        "scores": dict(scores),
        "n": n,
        "limit": limit,
        "index": None if index is None else [int(i) for i in index],
        "method": encoder["method"],
        "model": encoder["model"],
        "encoder": dict(encoder),
        "compat": sorted(compat),
        "data": dict(data),
        "environment": environment(),
        "command": command_line(),
        "seed": seed,
        "texts": texts,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds else 0.0,
        "peak_memory_mb": peak_memory_mb(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **more,
    }


def default_output(suite: str, info: EncoderInfo) -> Path:
    """results/SUITE/METHOD--MODEL, with a part of the fingerprint so that two settings never share a folder."""
    model = Path(info.model).name if Path(info.model).exists() else info.model.replace("/", "--")
    return Path("results") / suite / f"{info.method}--{model}--{info.fingerprint[:6]}"


def peak_memory_mb() -> float:
    """The high-water mark of this process: CUDA memory where CUDA is used, else resident memory."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        return sys.modules["torch"].cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
