from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import results
from benchmarks.results import check_one_system, predictions, read_folder, write_result
from common.errors import InputError


def test_what_is_written_is_read(tmp_path, scores, pair_folder):
    pair_folder(tmp_path / "out", {"STS12": scores["STS12"], "STS13": scores["STS13"]}, scores["Avg"], limit=None)
    read = read_folder(tmp_path / "out")
    assert list(read) == ["STS12", "STS13"]
    prediction, gold = predictions(tmp_path / "out", "STS13")
    assert np.array_equal(prediction, scores["STS13"])
    assert np.array_equal(gold, scores["Avg"])
    one = read["STS12"]
    assert one.path == tmp_path / "out" / "STS12.json"
    assert one.score == one.scores["spearman"]  # full precision
    assert (one.system, one.data_hash, one.switches) == (
        "sentence-transformer with minilm",
        "hash of STS12",
        (),
    )


def test_every_key_is_checked(tmp_path, payload):
    for key in payload():
        with pytest.raises(InputError, match=f"STS12.json.*{'schema' if key == 'schema' else repr(key)}|None.json"):
            write_result(tmp_path, {k: v for k, v in payload().items() if k != key})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"score": "72.37"}, "'score' is '72.37'; int or float"),
        ({"score": float("nan")}, "'score' is nan"),
        ({"n": True}, "'n' is True"),
        ({"n": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"compat": None}, "'compat' is None"),
        ({"index": [1, 2], "limit": 3, "n": 3}, "2 ids in 'index', but n is 3"),
    ],
)
def test_wrong_values_are_refused(tmp_path, payload, changes, message):
    with pytest.raises(InputError, match=message):
        write_result(tmp_path, payload(**changes))


def test_a_missing_folder_is_named_and_an_empty_one_is_empty(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such result folder"):
        read_folder(tmp_path / "nowhere")
    assert read_folder(tmp_path) == {}


def test_half_a_json_is_named(tmp_path, scores, pair_folder):
    pair_folder(tmp_path, {"STS12": scores["STS12"]}, scores["Avg"])
    file = tmp_path / "STS12.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(InputError, match=r"STS12\.json"):
        read_folder(tmp_path)


def test_foreign_json_and_renamed_results_are_named(tmp_path, payload):
    (tmp_path / "notes.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"notes\.json: not a result"):
        read_folder(tmp_path)
    (tmp_path / "notes.json").write_text(json.dumps(payload("STS12")))
    with pytest.raises(InputError, match=r"notes\.json: holds the task 'STS12'"):
        read_folder(tmp_path)


def test_hidden_temporary_files_are_not_results(tmp_path, payload):
    write_result(tmp_path, payload())
    (tmp_path / ".STS13.json").write_text("{")
    (tmp_path / ".STS13.json.77.tmp").write_text("{")
    assert list(read_folder(tmp_path)) == ["STS12"]


def test_arrays_without_json_are_no_result(tmp_path, scores, pair_folder):
    pair_folder(tmp_path, {"STS12": scores["STS12"]}, scores["Avg"])
    (tmp_path / "STS12.json").unlink()
    assert read_folder(tmp_path) == {}
    with pytest.raises(InputError, match=r"STS12\.json: no such result"):
        predictions(tmp_path, "STS12")


def test_broken_missing_and_foreign_arrays_are_named(tmp_path, scores, pair_folder):
    pair_folder(tmp_path, {"STS12": scores["STS12"]}, scores["Avg"])
    file = tmp_path / "STS12.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"STS12\.npz: can't be read"):
        predictions(tmp_path, "STS12")
    np.savez(file, prediction=scores["STS12"])
    with pytest.raises(InputError, match=r"STS12\.npz: can't be read.*gold"):
        predictions(tmp_path, "STS12")
    for short in ({"prediction"}, {"gold"}):
        arrays = {"prediction": scores["STS12"], "gold": scores["Avg"]}
        np.savez(file, **{name: array[:-1] if name in short else array for name, array in arrays.items()})
        with pytest.raises(InputError, match=f"has n = {len(scores['Avg'])}"):
            predictions(tmp_path, "STS12")
    np.savez(file, prediction=scores["STSB"], gold=scores["Avg"])  # of another run
    with pytest.raises(InputError, match="different runs"):
        predictions(tmp_path, "STS12")
    file.unlink()
    with pytest.raises(InputError, match=r"STS12\.npz: missing"):
        predictions(tmp_path, "STS12")


def test_a_kill_between_the_files_leaves_no_score_beside_other_predictions(tmp_path, scores, pair_folder, monkeypatch):
    pair_folder(tmp_path, {"STS12": scores["STS12"]}, scores["Avg"])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        pair_folder(tmp_path, {"STS12": scores["STS13"]}, scores["Avg"])
    assert read_folder(tmp_path) == {}


def test_arrays_must_fit(tmp_path, payload):
    with pytest.raises(InputError, match="'gold' is missing"):
        write_result(tmp_path, payload(n=2), {"prediction": np.zeros(2)})
    with pytest.raises(InputError, match=r"'prediction' is \(3,\), n is 2"):
        write_result(tmp_path, payload(n=2), {"prediction": np.zeros(3), "gold": np.zeros(2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "mteb"},
        {"suite": "sts-mteb"},
        {"model": "smollm2-135m"},
        {"encoder": {"fingerprint": "b2"}},
    ],
)
def test_mixed_folders_are_refused_with_both_files(tmp_path, payload, changes):
    write_result(tmp_path, payload("STS12"))
    check_one_system(read_folder(tmp_path))
    write_result(tmp_path, payload("STS13", **changes))
    with pytest.raises(InputError, match=r"STS12\.json and .*STS13\.json"):
        check_one_system(read_folder(tmp_path))


def test_switches_of_run_and_encoder_both_count(tmp_path, payload):
    write_result(tmp_path, payload(compat=["angle:senteval-blanks"], encoder={"compat": ["angle:pool-pad-mean"]}))
    assert read_folder(tmp_path)["STS12"].switches == ("angle:pool-pad-mean", "angle:senteval-blanks")
