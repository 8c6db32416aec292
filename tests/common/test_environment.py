from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from common import environment as env

REPO = Path(__file__).resolve().parents[2]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.py").write_text("a = 1\n")
    git(folder, "add", "a.py")
    git(folder, "commit", "-q", "-m", "one")
    return folder


# ------------------------------ the fingerprint


def test_the_environment_is_that_of_this_process() -> None:
    import torch

    found = env.environment()
    assert found["python"] == platform.python_version()
    assert found["cpu"]["cores"] == os.cpu_count()
    assert 1 <= found["cpu"]["usable"] <= os.cpu_count()
    assert found["cpu"]["threads"] == torch.get_num_threads()
    assert found["cpu"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["cpu"]["model"]
    assert found["libraries"]["torch"] == version("torch")
    assert found["libraries"]["sentence-transformers"] == version("sentence-transformers")
    assert set(found["libraries"]) <= set(env.LIBRARIES)
    assert (found["cuda"] is None) == (not torch.cuda.is_available())
    assert json.loads(json.dumps(found)) == found


def test_a_broken_torch_costs_only_its_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` an ImportError
    found = env.environment()
    assert found["cpu"]["threads"] is None
    assert found["cuda"] is None
    assert found["libraries"]["numpy"] == version("numpy")


def test_commit_and_changes_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert env._git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "b.py").write_text("b = 1\n")
    assert env._git_state(checkout) == {"commit": commit, "dirty": True}
    (checkout / "b.py").unlink()
    (checkout / "a.py").write_text("a = 2\n")
    assert env._git_state(checkout) == {"commit": commit, "dirty": True}


def test_no_commit_is_claimed_that_is_not_this_project(checkout: Path, tmp_path: Path) -> None:
    inner = checkout / "site-packages"
    inner.mkdir()
    assert env._git_state(inner) is None
    assert env._git_state(tmp_path) is None


def test_a_checkout_without_commits_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert env._git_state(tmp_path) == {"commit": None, "dirty": False}


def test_inside_a_git_hook_the_project_is_asked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert env._git_state(checkout) == {"commit": commit, "dirty": False}


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert env._git_state(checkout) is None


# ------------------------------ the command

PROGRAM = "import json; from common.io import command_line; from common.environment import program_name\n"
PROGRAM += "print(json.dumps([program_name(), command_line()]))\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a script and a package with the same program, as a user's working folder."""
    folder = tmp_path / "home" / "project"
    for name in ("angle/train.py", "bench/__main__.py", "bench/speed.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(PROGRAM)
    (folder / "bench" / "__init__.py").touch()
    return folder


def start(project: Path, *words: str, **extra: str) -> list[str]:
    variables = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{project}", **extra}
    done = subprocess.run(
        [sys.executable, *words], cwd=project, capture_output=True, text=True, check=True, env=variables
    )
    name, command = json.loads(done.stdout)
    return [name, command]


def test_a_script_is_named_by_its_path_from_here(project: Path) -> None:
    words = ["--prompt", 'Summarize "{text}":', "--w2", "35", "-x=", "é"]
    name, command = start(project, "angle/train.py", *words)
    assert name == "angle/train.py"
    assert command == """python angle/train.py --prompt 'Summarize "{text}":' --w2 35 -x= 'é'"""
    assert shlex.split(command) == ["python", "angle/train.py", *words]


def test_a_module_is_named_as_it_was_started(project: Path) -> None:
    assert start(project, "-m", "bench", "run") == ["python -m bench", "python -m bench run"]
    assert start(project, "-m", "bench.speed") == ["python -m bench.speed", "python -m bench.speed"]


def test_paths_here_and_beside_here_are_relative_and_others_stay(project: Path) -> None:
    words = [f"--output={project}/out", str(project.parent / "data"), "/etc/hosts", str(project), "a=/b", "/"]
    name, command = start(project, str(project / "angle" / "train.py"), *words)
    assert name == "angle/train.py"
    assert command == "python angle/train.py --output=out ../data /etc/hosts . a=/b /"


def test_a_start_with_torchrun_is_given_back_as_one(project: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    name, command = start(project, *launcher, "-m", "bench", "--fp16", "1", OMP_NUM_THREADS="1")
    assert name == "python -m bench"
    assert command == "torchrun --nproc_per_node=1 -m bench --fp16 1"


def test_several_machines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["angle/train.py"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    elastic = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"}
    for variable, value in elastic.items():
        monkeypatch.setenv(variable, value)
    assert env.command_line() == "torchrun --nproc_per_node=8 --nnodes=2 angle/train.py"


@pytest.mark.parametrize("argv", [[], [""]])
def test_without_a_program_there_is_still_a_line(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert env.command_line() == "python"
    assert env.program_name() == "python"
