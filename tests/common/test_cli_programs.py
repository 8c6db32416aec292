from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import cli

REPO = Path(__file__).resolve().parents[2]


# ------------------------------ programs

PROGRAM = '''
"""A program under test."""
from __future__ import annotations
import logging, sys
from dataclasses import dataclass
from pathlib import Path
from common import cli
from common.errors import InputError

@dataclass
class Config:
    what: str
    code: int = 0

def main(config: Config) -> int | None:
    logging.getLogger(__name__).info("at work")
    logging.getLogger("urllib3").info("noise")
    match config.what:
        case "input": raise InputError("row 3: no label;\\nmend it")
        case "missing": Path("nowhere.txt").read_text()
        case "folder": Path(".").read_text()
        case "bug": raise ValueError("a bug")
        case "nameless": raise FileNotFoundError("no cached file")
        case "interrupt": raise KeyboardInterrupt
        case "none": return None
        case "wait":
            import time
            print("ready", flush=True)
            time.sleep(60)
        case "much": print("\\n".join(map(str, range(100_000))))
        case "little": print("a line")
        case "pipe": raise BrokenPipeError("of something else")
    return config.code

if __name__ == "__main__":
    cli.run(main, Config, description=__doc__)
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "train.py").write_text(PROGRAM)
    return tmp_path


def start(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{folder}", **extra}
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=variables)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["none"], 0, "at work\n"),
        (["ok", "--code", "1"], 1, "at work\n"),
        (["input"], 2, "at work\npaper/train.py: error: row 3: no label; mend it\n"),
        (["missing"], 2, "at work\npaper/train.py: error: nowhere.txt: No such file or directory\n"),
        (["folder"], 2, "at work\npaper/train.py: error: .: Is a directory\n"),
        (["interrupt"], 130, "at work\npaper/train.py: interrupted\n"),
        (
            ["ok", "--cod", "1"],
            2,
            "paper/train.py: error: unknown flag --cod (did you mean --code?); --help lists the flags\n",
        ),
    ],
)
def test_exit_codes_and_messages(program: Path, words: list[str], code: int, error: str) -> None:
    done = start(program, "paper/train.py", "--what", *words)
    assert (done.returncode, done.stderr, done.stdout) == (code, error, "")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("bug", "ValueError: a bug\n"),
        ("nameless", "Error: no cached file\n"),
        ("pipe", "BrokenPipeError: of something else\n"),
    ],
)
def test_bugs_keep_their_traceback(program: Path, what: str, told: str) -> None:
    done = start(program, "paper/train.py", "--what", what)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith(told)


@pytest.mark.parametrize("words", [["--what", "much"], ["--what", "little"], ["--help"]])
def test_output_that_nobody_reads(program: Path, words: list[str]) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "paper/train.py", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=program, env=variables, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does when it has enough
        error = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, error) == (cli.UNREAD, "" if words == ["--help"] else "at work\n")


def test_an_interrupt_from_outside(program: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "paper/train.py", "--what", "wait"]

    def hear_interrupts() -> None:  # what a shell starts in the background inherits a deaf ear for them
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=program, env=variables, preexec_fn=hear_interrupts, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.decode().endswith("paper/train.py: interrupted\n")
    assert "Traceback" not in error.decode()


def test_of_several_processes_one_speaks(program: Path) -> None:
    second = {"LOCAL_RANK": "1", "RANK": "1"}
    for words in (["--help"], ["--what", "ok", "--cod", "1"], ["--what", "ok", "--old", "1"]):
        done = start(program, "paper/train.py", *words, **second)
        assert (done.stdout, done.stderr) == ("", "")
    done = start(program, "paper/train.py", "--what", "input", **second)  # what befell it alone, it must tell
    assert (done.returncode, done.stderr) == (2, "paper/train.py: [rank 1] error: row 3: no label; mend it\n")
    assert start(program, "paper/train.py", "--what", "ok", LOCAL_RANK="0").stderr == "at work\n"


def test_help_imports_no_heavy_library(program: Path) -> None:
    check = "import sys, runpy; sys.argv = ['paper/train.py', '--help']\n"
    check += "try: runpy.run_path('paper/train.py', run_name='__main__')\n"
    check += "except SystemExit: print('heavy:', *{'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules))"
    done = start(program, "-c", check)
    assert done.stdout.startswith("usage: ")
    assert "A program under test." in done.stdout
    assert done.stdout.endswith("heavy:\n")


# ------------------------------ sub-commands

BENCH = '''
"""Benchmarks under test."""
from common import cli
from common.errors import InputError

if __name__ == "__main__":
    commands = {"run": "bench.commands:run", "table": "bench.commands:table", "broken": "bench.broken:main"}
    cli.dispatch(commands, description=__doc__)
'''

COMMANDS = '''
"""The commands."""
from dataclasses import dataclass
from common import cli
from common.errors import InputError
print("imported")

@dataclass
class Config:
    limit: int = 0

def run(argv):
    """Run a suite.

    At length.
    """
    cli.run(lambda config: print(config) or 1, Config, argv)

def table(argv):
    if argv == ["bad"]:
        raise InputError("no such table")
    print(argv)
'''


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    files = {
        "__main__.py": BENCH,
        "commands.py": COMMANDS,
        "broken.py": '"""Needs what is not there."""\nimport nowhere\n',
    }
    (tmp_path / "bench").mkdir()
    for name, text in {**files, "__init__.py": ""}.items():
        (tmp_path / "bench" / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["help"], 0), ([], 2)])
def test_commands_are_listed_without_importing_them(bench: Path, words: list[str], code: int) -> None:
    done = start(bench, "-m", "bench", *words)
    assert done.returncode == code
    text = done.stderr if code else done.stdout
    assert "usage: python -m bench COMMAND" in text
    assert "Benchmarks under test." in text
    assert "  run     Run a suite\n  table   The commands\n  broken  Needs what is not there\n" in text
    assert "imported" not in text


@pytest.mark.parametrize(
    ("words", "code", "out", "error"),
    [
        (["run", "--limit", "3"], 1, "imported\nConfig(limit=3)\n", ""),
        (["table", "a", "--b"], 0, "imported\n['a', '--b']\n", ""),
        (["table", "bad"], 2, "imported\n", "python -m bench table: error: no such table\n"),
        (
            ["run", "--limt", "3"],
            2,
            "imported\n",
            "python -m bench run: error: unknown flag --limt (did you mean --limit?); --help lists the flags\n",
        ),
        (["tabel"], 2, "", "python -m bench: error: unknown command 'tabel'; did you mean 'table'?\n"),
        (
            ["xyzzy"],
            2,
            "",
            "python -m bench: error: unknown command 'xyzzy'; the commands are run, table, broken\n",
        ),
    ],
)
def test_commands(bench: Path, words: list[str], code: int, out: str, error: str) -> None:
    done = start(bench, "-m", "bench", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, error)


def test_help_of_one_command_names_it_in_full(bench: Path) -> None:
    for words in (["run", "--help"], ["help", "run"]):
        assert (
            "usage: python -m bench run [CONFIG.yaml] [--flag value ...]" in start(bench, "-m", "bench", *words).stdout
        )


def test_a_broken_command_does_not_break_the_others(bench: Path) -> None:
    assert "nowhere" in start(bench, "-m", "bench", "broken").stderr
    assert start(bench, "-m", "bench", "table").returncode == 0
