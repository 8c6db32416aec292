"""What a result must say about where it was made: machine, libraries, commit and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]

LIBRARIES = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "sentence-transformers", "mteb"),
    *("datasets", "safetensors", "bitsandbytes", "gguf", "flash-attn", "deepspeed"),
    *("numpy", "scipy", "scikit-learn", "pandas", "pyarrow"),
)


def environment() -> dict[str, Any]:
    """Machine, library versions and commit, for the record of a result; never fails.

    Keys: `python`, `platform`, `cpu` (`model`, `cores` of the machine, `usable` by this process, torch's
    `threads` and `capability`), `libraries` (name -> version of those installed), `git` (`commit`, `dirty`;
    None outside a checkout), `cuda` (`version`, `devices`; None without a GPU). Imports torch if it is there.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "usable": usable, **_torch_cpu()},
        "libraries": _versions(),
        "git": _git_state(PROJECT),
        "cuda": _cuda(),
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _torch_cpu() -> dict[str, Any]:
    try:
        import torch

        return {"threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()}
    except Exception:  # a missing or broken torch must not cost the record its other lines
        return {"threads": None, "capability": None}


def _cuda() -> dict[str, Any] | None:
    try:
        import torch

        if not torch.cuda.is_available():
            return None
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return {"version": torch.version.cuda, "devices": names}
    except Exception:  # as above
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except Exception:  # not installed, or installed with broken metadata
            continue
    return found


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag when `folder` is the top of a checkout, else None.

    A copy inside some other project's checkout (a virtual environment, say) must not report that commit.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder.resolve():
        return None
    status = _git(folder, "status", "--porcelain")
    return {
        "commit": _git(folder, "rev-parse", "--verify", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def _git(folder: Path, *words: str) -> str | None:
    # Inside a git hook these name another checkout; without optional locks, others can work meanwhile.
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    env = {name: value for name, value in os.environ.items() if name not in elsewhere}
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command,
            env={**env, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def program_name() -> str:
    """How the running program is called: `angle/train.py`, or `python -m benchmarks` when started with -m."""
    module = _module()
    return f"python -m {module}" if module else _relative(sys.argv[0]) if sys.argv and sys.argv[0] else "python"


def command_line() -> str:
    """The running command, quoted for a shell, in a form that a user can run again from this folder.

    `python -m` and `torchrun` starts are given back as such; of paths, those in this folder or beside it are
    relative to it, so that no result tells where its author keeps the project.
    """
    words = [_relative(word) for word in sys.argv[1:]]
    module = _module()
    program = ["-m", module] if module else [_relative(word) for word in sys.argv[:1] if word]
    workers = os.environ.get("LOCAL_WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    start = ["python"] if workers is None else ["torchrun", f"--nproc_per_node={workers}"]
    nodes = int(os.environ.get("GROUP_WORLD_SIZE") or 1) if workers else 1
    if nodes > 1:
        start.append(f"--nnodes={nodes}")
    return shlex.join([*start, *program, *words])


def _module() -> str | None:
    """The module that `python -m` was given, or None."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec is not None else None


def _relative(word: str) -> str:
    """`word`, or the path in `word` or after its `=`, relative to here where it lies here or beside here."""
    flag, sign, path = word.partition("=") if word.startswith("-") else ("", "", word)
    if not os.path.isabs(path):
        return word
    here = os.getcwd()
    for top in (here, os.path.dirname(here)):
        if top != "/" and os.path.commonpath([top, path]) == top:
            return flag + sign + os.path.relpath(path, here)
    return word
