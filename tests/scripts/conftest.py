"""What the tests of scripts share: running one without a Python of its own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Callable[[Path, list[str]], None]:
    """Run a script from `tmp_path`: bash goes as far as Python's command line, whose words are run in this process.

    A Python of its own for each of the scripts would import torch that often, most of the time that they take.
    """
    own = tmp_path_factory.mktemp("python")

    def run(script: Path, words: list[str]) -> None:
        recorder, record = own / "python", own / "words"
        recorder.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@" > "$WORDS"\n')
        recorder.chmod(0o755)
        env = {**os.environ, "PYTHON": str(recorder), "WORDS": str(record), "GPUS": "1"}
        subprocess.run(["bash", str(script), *words], cwd=tmp_path, env=env, check=True)
        program, *rest = record.read_text().split("\0")[:-1]
        monkeypatch.chdir(tmp_path)
        module = program == "-m"
        monkeypatch.setattr(sys, "argv", rest if module else [program, *rest])
        options: dict[str, Any] = {"run_name": "__main__", **({"alter_sys": True} if module else {})}
        with pytest.raises(SystemExit) as end:
            (runpy.run_module if module else runpy.run_path)(sys.argv[0], **options)
        assert not end.value.code

    return run
