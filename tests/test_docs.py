"""Every command in the documentation parses, every linked file exists, generated parts are current."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGES = sorted(
    p
    for p in [*REPO.glob("*.md"), *REPO.glob("*/README.md"), *REPO.glob("docs/*.md"), *REPO.glob("common/shipped/*.md")]
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.split("  #")[0].strip()
                if line and not line.startswith("#"):
                    found.append((str(page.relative_to(REPO)), line))
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda x: x[:60])
def test_a_command_of_the_documentation_is_understood(page: str, line: str) -> None:
    words = [w for w in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S*", w)]
    if words[0] == "source":
        return
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, w in enumerate(words) if w.endswith(".py")) :]]
    if words[0] == "bash":
        script = REPO / words[1]
        assert script.is_file(), f"{page}: {words[1]} does not exist"
        subprocess.run(["bash", "-n", str(script)], check=True)
        return
    assert words[0] in ("python", "pip"), f"{page}: can't check {line!r}"
    if words[0] == "pip":
        return
    # The program's own parser must take the flags: an unknown one would be refused before --help is reached.
    program = words[1:3] if words[1] == "-m" else [str(REPO / words[1])]
    rest = words[3:] if words[1] == "-m" else words[2:]
    run = subprocess.run(
        [sys.executable, *program, *rest, "--help"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{page}: {line}\n{run.stderr[-500:]}"
    known = set(re.findall(r"--[a-z][\w]*", run.stdout))
    flags = {w.split("=")[0].replace("-", "_").replace("__", "--", 1) for w in rest if w.startswith("--")}
    assert flags <= known | {"--config"}, f"{page}: {line}: unknown {sorted(flags - known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_and_python_blocks(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(REPO)}: broken link {target}"
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


def test_the_results_matrix_is_current() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "matrix", "--check"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_file_of_the_tree_section_exists() -> None:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    tree = text.split("## Tree", 1)[1].split("```")[1]
    folder = REPO
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = REPO if not line.startswith(" ") else folder
        path = folder / name
        assert path.exists(), f"README tree names {name}, which does not exist"
        if name.endswith("/") and not line.startswith(" "):
            folder = path
