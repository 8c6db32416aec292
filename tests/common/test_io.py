from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import io
from common.errors import InputError

REPO = Path(__file__).resolve().parents[2]

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def hidden(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.startswith(".")]


def start(script: str, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPO)}, stdout=subprocess.PIPE)


# ------------------------------ text and JSON


@unhurried
@given(json_values)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    io.write_json(path, value)
    assert io.read_json(path) == value
    assert path.read_bytes().endswith(b"\n")


def test_json_keeps_the_order_of_keys_and_is_readable_text(tmp_path: Path) -> None:
    io.write_json(tmp_path / "a.json", {"z": 1, "a": "Grüße"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": "Grüße"\n}\n'


def test_json_takes_numpy_values_and_paths(tmp_path: Path) -> None:
    value = {
        "f": np.float32(0.5),
        "i": np.int64(3),
        "b": np.bool_(True),
        "a": np.arange(3),
        "p": PurePosixPath("x/y"),
    }
    io.write_json(tmp_path / "a.json", value)
    assert io.read_json(tmp_path / "a.json") == {"f": 0.5, "i": 3, "b": True, "a": [0, 1, 2], "p": "x/y"}


def test_json_keeps_undecodable_file_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    io.write_json(tmp_path / "a.json", {"file": name})
    assert io.read_json(tmp_path / "a.json") == {"file": name}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "the value = nan"),
        ({"scores": {"STS12": [1.0, math.inf]}}, "scores.STS12[1] = inf"),
        ({"a": (1, {"b": np.float32("nan")})}, "a[1].b = nan"),
        ({"a": np.array([[0.0, -np.inf]])}, "a[0][1] = -inf"),
    ],
)
def test_json_refuses_nan_and_names_its_place_and_writes_nothing(tmp_path: Path, value: object, place: str) -> None:
    with pytest.raises(ValueError, match=r"is not a finite number") as caught:
        io.write_json(tmp_path / "a.json", value)
    assert place in str(caught.value)
    assert "a.json" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_json_refuses_what_it_can_not_hold(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set can't be written as JSON"):
        io.write_json(tmp_path / "a.json", {"a": {1, 2}})


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    io.write_text(tmp_path / "a.txt", "eins\r\nzwei\n\u2028drei")
    assert (tmp_path / "a.txt").read_bytes() == "eins\r\nzwei\n\u2028drei".encode()


def test_arrays_come_back_and_give_the_same_bytes(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "prediction": np.linspace(0, 1, 7),
        "gold": np.arange(7, dtype=np.float32),
    }
    io.write_npz(tmp_path / "a.npz", **arrays)
    io.write_npz(tmp_path / "b.npz", **arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert set(stored) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(stored[name], array)
            assert stored[name].dtype == array.dtype
    assert io.sha256_file(tmp_path / "a.npz") == io.sha256_file(tmp_path / "b.npz")


@pytest.mark.parametrize(("name", "array"), [("a", np.array([{}])), ("a", ["x", None]), ("file", np.zeros(1))])
def test_arrays_that_numpy_would_pickle_or_lose_are_refused(tmp_path: Path, name: str, array: object) -> None:
    with pytest.raises(ValueError, match=name):
        io.write_npz(tmp_path / "a.npz", **{name: array})
    assert not list(tmp_path.iterdir())


# ------------------------------ atomic writing


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    io.write_text(path, "old")

    def write_half() -> None:
        with io.atomic_file(path) as handle:
            handle.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_parents_are_made_and_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    io.write_text(tmp_path / "x" / "y" / "a.txt", "a")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "a"
    with pytest.raises(InputError, match="is a folder"):
        io.write_text(tmp_path / "x", "a")
    with pytest.raises(InputError, match="is a file"), io.atomic_folder(tmp_path / "x" / "y" / "a.txt"):
        pass


def test_permissions_follow_the_umask_and_then_the_old_file(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "a.txt"
    plain.touch()
    io.write_text(path, "a")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    io.write_text(path, "b")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    io.write_text(tmp_path / "link.txt", "a")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "a"


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120 + ".json")
    io.write_json(path, 1)
    assert io.read_json(path) == 1


def test_content_is_on_disk_before_it_gets_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave the new name on an empty file; only the order of the calls can be seen."""
    calls: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            calls.append(name)
            return real(*words)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    io.write_text(tmp_path / "a.txt", "a")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder that holds the name
    calls.clear()
    with io.atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("a")
        (folder / "link").symlink_to("nowhere")
    assert calls == ["fsync", "fsync", "replace", "fsync"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from common import io
with io.atomic_file(sys.argv[1]) as handle:
    handle.write(b"new" * 100_000)
    handle.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("old", ["old", None])
def test_killed_while_writing_leaves_the_old_file(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    process = start(KILLED_WHILE_WRITING, path)
    assert process.wait(60) == -signal.SIGKILL
    assert hidden(tmp_path), "the child was killed before it wrote anything"
    assert (path.read_text() if path.exists() else None) == old


WRITER = """
import sys
from common import io
for index in range(10_000_000):
    io.write_bytes(sys.argv[1], b"%d" % (index % 10) * 300_000)
    if not index:
        print("started", flush=True)
"""


def test_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for delay in (0.0, 0.011, 0.023, 0.037):
        process = start(WRITER, path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait(60)
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


FOLDER_WRITER = """
import sys
from common import io
for index in range(10_000_000):
    with io.atomic_folder(sys.argv[1]) as folder:
        for name in "abc":
            (folder / name).write_text(str(index))
    if not index:
        print("started", flush=True)
"""


def test_a_reader_and_a_kill_always_find_a_whole_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for delay in (0.05, 0.113, 0.171):
        process = start(FOLDER_WRITER, path)
        assert process.stdout is not None
        process.stdout.readline()
        end = time.monotonic() + delay
        while time.monotonic() < end:
            assert path.is_dir()  # while it is replaced over and over, the name is never free
        process.kill()
        process.wait(60)
        assert sorted(file.name for file in path.iterdir()) == ["a", "b", "c"]
        assert len({file.read_text() for file in path.iterdir()}) == 1


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with io.atomic_folder(tmp_path / "deep" / "model") as folder:
            assert list(folder.iterdir()) == []
            (folder / content).mkdir()
            (folder / content / "weights").write_text(content)
    assert [file.name for file in (tmp_path / "deep" / "model").iterdir()] == ["new"]
    assert hidden(tmp_path / "deep") == []


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_survives_an_error(tmp_path: Path, exists: bool, error: type[BaseException]) -> None:
    path = tmp_path / "model"
    if exists:
        path.mkdir()
        (path / "weights").write_text("old")

    def write_half() -> None:
        with io.atomic_folder(path) as folder:
            (folder / "weights").write_text("new")
            raise error

    with pytest.raises(error):
        write_half()
    assert hidden(tmp_path) == []
    assert (path / "weights").read_text() == "old" if exists else not path.exists()


def test_a_folder_is_replaced_where_the_system_has_no_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io.ctypes, "CDLL", lambda *_, **__: object())
    test_a_folder_replaces_the_old_one_as_a_whole(tmp_path)


# ------------------------------ hashes


def test_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the first test vector of FIPS 180-4
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert io.sha256_file(tmp_path / "a") == expected


def test_hash_of_a_value_knows_values_not_their_form() -> None:
    assert io.sha256_of({"a": 1, "b": (1, 2)}) == io.sha256_of({"b": [1, 2], "a": np.int64(1)})
    assert io.sha256_of([1, 2]) != io.sha256_of([2, 1])
    assert io.sha256_of("1") != io.sha256_of(1)
    with pytest.raises(ValueError):
        io.sha256_of(math.nan)


@unhurried
@given(json_values)
def test_hash_of_a_value_survives_a_file(value: object) -> None:
    assert io.sha256_of(value) == io.sha256_of(json.loads(json.dumps(value)))
