"""One place makes the JSON of every result; it is what the reader of results asks for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.result_record import default_output, peak_memory_mb, result_record
from benchmarks.results import read_folder, write_result
from common.encoder import Encoder
from common.errors import InputError


def made(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"task": "STS12", "suite": "sts", "protocol": "senteval", "metric": "pearson", "seed": 1}
    facts |= {"score": 61.5, "scores": {"pearson": 61.5}, "n": 2, "data": {"source": "a folder", "sha256": "h"}}
    facts |= {"texts": 4, "tokens": 30, "seconds": 2.0}
    return result_record({"method": "angle", "model": "tiny", "fingerprint": "f"}, **{**facts, **changes})


def test_it_is_read_back_with_all_fields(tmp_path: Path) -> None:
    write_result(tmp_path, made(limit=2, index=np.array([3, 5]), compat={"b:two", "a:one"}))
    found = read_folder(tmp_path)["STS12"]
    assert (found.system, found.score, found.tokens_per_second) == ("angle with tiny", 61.5, 15.0)
    assert (found.limit, found.index, found.compat) == (2, (3, 5), ("a:one", "b:two"))
    assert found.environment["python"]
    assert found.command
    assert found.peak_memory_mb is not None
    assert 50 < found.peak_memory_mb <= peak_memory_mb()


def test_no_seconds_are_no_division_and_more_keys_win(tmp_path: Path) -> None:
    record = made(seconds=0.0, peak_memory_mb=None, labels=["NN", "VB"])
    assert (record["tokens_per_second"], record["peak_memory_mb"], record["labels"]) == (0.0, None, ["NN", "VB"])
    write_result(tmp_path, record)


def test_an_impossible_score_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="score"):
        write_result(tmp_path, made(score=float("nan")))
    assert not list(tmp_path.iterdir())


def test_the_folder_has_method_model_and_settings_in_its_name(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    folder = default_output("sts", encoder.info)
    assert folder.parts[:2] == ("results", "sts")
    assert folder.name.startswith(f"{encoder.info.method}--")
    assert folder.name.endswith(encoder.info.fingerprint[:6])
