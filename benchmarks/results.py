"""Result folders: one `TASK.json` per task, and `TASK.npz` with `prediction` and `gold` for pair tasks.

The arrays are written first and the JSON last, so a `TASK.json` that exists means a task that is complete.
Reading refuses what is half, foreign or contradictory, by file name.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stats import STATISTICS, score
from common.errors import InputError
from common.io import read_json, write_json, write_npz

SCHEMA = 1
# Points by which a stored score may differ from that of the stored predictions (float32; folds of unequal size).
AGREEMENT = 0.01


@dataclass(frozen=True)
class Result:
    """One task's result, as its JSON holds it. Scores are x 100, in full precision."""

    task: str
    suite: str
    protocol: str
    metric: str
    score: float
    scores: dict[str, Any]
    n: int  # pairs (or texts) that were scored
    limit: int | None  # the --limit of the run; None: the whole task
    index: tuple[Any, ...] | None  # ids of the scored items of a limited run
    method: str
    model: str
    encoder: dict[str, Any]
    compat: tuple[str, ...]  # switches that imitate a released code's quirks
    data: dict[str, Any]  # source and sha256
    environment: dict[str, Any]
    command: str
    seed: int
    tokens: int
    texts: int
    seconds: float
    tokens_per_second: float
    peak_memory_mb: float | None
    created: str
    path: Path = field(compare=False)  # the file it was read from

    @property
    def adapter(self) -> str | None:
        """The adapter on top of the model, if any."""
        names = self.encoder.get("adapter")
        return names if isinstance(names, str) else " + ".join(names or ()) or None

    @property
    def system(self) -> str:
        """Method, model and adapter in a few words."""
        return f"{self.method} with {self.model}" + (f" + {self.adapter}" if self.adapter else "")

    @property
    def switches(self) -> tuple[str, ...]:
        """Every compat switch that was on, the run's and the encoder's."""
        return tuple(sorted({*self.compat, *self.encoder.get("compat", ())}))

    @property
    def data_hash(self) -> str | None:
        """SHA-256 of the task's data."""
        return self.data.get("sha256")

    @classmethod
    def from_payload(cls, payload: Any, path: Path) -> Result:
        """Check the schema of a TASK.json. InputError names the file and the key."""
        if not isinstance(payload, Mapping):
            raise InputError(f"{path}: not a result: a JSON object is expected, not {type(payload).__name__}")
        if payload.get("schema") != SCHEMA:
            raise InputError(
                f"{path}: result schema {payload.get('schema')!r}, {SCHEMA} is expected; run the task again"
            )
        values: dict[str, Any] = {}
        for name in (f.name for f in fields(cls) if f.name != "path"):
            if name not in payload:
                raise InputError(f"{path}: the key {name!r} is missing; delete the file and run the task again")
            kinds, nullable = _KINDS[name]
            value = payload[name]
            fits = isinstance(value, kinds) and not (isinstance(value, bool) or _not_finite(value))
            if not (fits or (value is None and nullable)):
                expected = " or ".join(k.__name__ for k in kinds) + (" or null" if nullable else "")
                raise InputError(f"{path}: {name!r} is {value!r}; {expected} is expected")
            values[name] = tuple(value) if isinstance(value, list) else value
        result = cls(path=path, **values)
        if path.stem != result.task:
            raise InputError(f"{path}: holds the task {result.task!r}; a result file bears its task's name")
        if result.n < 1 or (result.limit is not None and result.limit < 1):
            raise InputError(f"{path}: n is {result.n}, limit is {result.limit}; both must be at least 1")
        if result.index is not None and len(result.index) != result.n:
            raise InputError(f"{path}: {len(result.index)} ids in 'index', but n is {result.n}")
        return result


_TEXT, _WHOLE, _NUMBER, _MAP, _LIST = (str,), (int,), (int, float), (dict,), (list, tuple)
_KINDS: dict[str, tuple[tuple[type, ...], bool]] = {  # key: accepted types, may be null
    **dict.fromkeys(("task", "suite", "protocol", "metric", "method", "model", "command", "created"), (_TEXT, False)),
    **dict.fromkeys(("scores", "encoder", "data", "environment"), (_MAP, False)),
    **dict.fromkeys(("n", "seed", "tokens", "texts"), (_WHOLE, False)),
    **dict.fromkeys(("score", "seconds", "tokens_per_second"), (_NUMBER, False)),
    "peak_memory_mb": (_NUMBER, True),
    "limit": (_WHOLE, True),
    "index": (_LIST, True),
    "compat": (_LIST, False),
}


def read_folder(path: str | Path) -> dict[str, Result]:
    """All results of a folder, by task, in the order of their names. An empty folder gives {}.

    Raises:
        InputError: the folder is missing, or one of its JSON files is no complete result.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such result folder; `python -m benchmarks run ... --output {folder}` makes one")
    files = sorted(f for f in folder.glob("*.json") if not f.name.startswith("."))
    results = [Result.from_payload(_read_json(file), file) for file in files]
    return {result.task: result for result in results}


def predictions(path: str | Path, task: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(prediction, gold) of one pair task, each (n,), in the order of the data.

    Raises:
        InputError: no such result; no, broken or unequal arrays; arrays that do not give the stored score.
    """
    folder = Path(path)
    result = Result.from_payload(_read_json(folder / f"{task}.json"), folder / f"{task}.json")
    file = folder / f"{task}.npz"
    if not file.is_file():
        raise InputError(f"{file}: missing; {task} has a score but no predictions, so pairs can't be compared")
    try:
        with np.load(file, allow_pickle=False) as stored:
            prediction, gold = (np.asarray(stored[name], dtype=np.float64) for name in ("prediction", "gold"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: can't be read ({error}); delete it and run {task} again") from error
    if prediction.shape != (result.n,) or gold.shape != (result.n,):
        shapes = f"prediction {prediction.shape}, gold {gold.shape}"
        raise InputError(f"{file}: {shapes}, but {task}.json has n = {result.n}; run {task} again")
    if result.metric in STATISTICS:
        found = score(prediction, gold, result.metric)
        if not abs(found - result.score) <= AGREEMENT:
            raise InputError(
                f"{file}: its arrays give {result.metric} {found:.2f}, but {task}.json says {result.score:.2f}; "
                f"the two files are of different runs, run {task} again"
            )
    return prediction, gold


def check_one_system(results: Mapping[str, Result]) -> None:
    """InputError, naming two files, unless all results of a folder are of one encoder and one protocol."""
    first: Result | None = None
    for result in results.values():
        first = first or result
        for key in ("suite", "protocol", "method", "model", "fingerprint"):
            mine, other = (_fact(item, key) for item in (first, result))
            if mine != other:
                raise InputError(
                    f"{first.path} and {result.path} don't belong together: {key} {mine!r} and {other!r}; "
                    "keep every system and protocol in a folder of its own"
                )


def write_result(
    folder: str | Path, payload: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
) -> Path:
    """Write one task's result and return the JSON's path.

    An older result of the task is taken away first, then the arrays are written, then the JSON: whatever
    moment a kill comes at, the folder never shows a score beside another run's predictions.

    Args:
        folder: made if missing.
        payload: the JSON object, checked against the schema before anything is touched.
        arrays: for pair tasks, `prediction` and `gold`, each (n,).
    """
    folder = Path(folder)
    target = folder / f"{payload.get('task')}.json"
    result = Result.from_payload(dict(payload), target)
    if arrays is not None:
        for name in ("prediction", "gold"):
            shape = np.shape(arrays[name]) if name in arrays else "missing"
            if shape != (result.n,):
                raise InputError(f"{target}: array {name!r} is {shape}, n is {result.n}")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (target, target.with_suffix(".npz")):
        if stale.exists():
            os.unlink(stale)
    if arrays is not None:
        write_npz(target.with_suffix(".npz"), **arrays)
    write_json(target, dict(payload))
    return target


def _read_json(file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"{file}: no such result")
    return read_json(file)


def _fact(result: Result, key: str) -> Any:
    return result.encoder.get(key) if key == "fingerprint" else getattr(result, key)


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
