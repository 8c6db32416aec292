"""How the tests of AnglE's programs run them: the real script, in this process, so that torch loads once."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def program(monkeypatch, capsys) -> Callable[..., Done]:
    """`program("angle/eval.py", "--flag", ...)`: exit code and what was printed; log lines: `caplog`."""

    def call(path: str, *words: object) -> Done:
        monkeypatch.setattr(sys, "argv", [str(REPO / path), *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(REPO / path), run_name="__main__")
        printed = capsys.readouterr()
        return Done(int(stopped.value.code or 0), printed.out, printed.err)

    return call
