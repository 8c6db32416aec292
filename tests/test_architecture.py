"""The rules that keep the tree readable: who imports whom, how long files are, what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAPERS = ("angle", "bellm", "llm2vec", "inbedder", "bge_icl")
OURS = ("common", "senteval", "benchmarks", *PAPERS)
# Modules of papers that use benchmarks: what their users run, and what these are made of.
PROGRAMS = {
    *("train", "eval", "infer", "face", "make_examples", "make_train_data"),
    *("study", "study_config", "study_cells", "study_report", "study_plot"),
    *("air_bench", "air_bench_sets"),
}


def python_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [REPO / line for line in listed.stdout.split()]
    return [f for f in files if f.is_file()]


SOURCES = [f for f in python_files() if f.relative_to(REPO).parts[0] in OURS]


def imported(file: Path) -> set[str]:
    """Our modules that a file imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] in OURS}


def may_import(package: str, module: str, target: str) -> bool:
    top = target.partition(".")[0]
    if package == top:
        return True
    if package == "senteval":
        return False
    if package == "common":
        return False
    if package == "benchmarks":
        return top in ("common", "senteval")
    # A paper: never another paper; only its programs may use the benchmarks.
    if module.startswith("train") or module in PROGRAMS:
        return top in ("common", "benchmarks", "senteval")
    return top == "common"


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(REPO)))
def test_imports_go_one_way(file: Path) -> None:
    package = file.relative_to(REPO).parts[0]
    wrong = [t for t in imported(file) if not may_import(package, file.stem, t)]
    assert not wrong, f"{file.relative_to(REPO)} may not import {wrong}"


@pytest.mark.parametrize("paper", PAPERS)
def test_no_two_modules_of_a_paper_import_each_other(paper: str) -> None:
    files = [f for f in SOURCES if f.relative_to(REPO).parts[0] == paper]
    imports = {".".join(f.relative_to(REPO).with_suffix("").parts): imported(f) for f in files}
    both_ways = [(one, t) for one, found in imports.items() for t in found if one in imports.get(t, ())]
    assert not both_ways


def test_the_rule_itself_can_fail() -> None:
    assert not may_import("common", "encoder", "angle.encoder")
    assert not may_import("senteval", "load", "common.io")
    assert not may_import("benchmarks", "run", "angle.encoder")
    assert not may_import("angle", "encoder", "benchmarks.run")
    assert not may_import("angle", "train", "bellm.encoder")
    assert may_import("angle", "eval", "benchmarks.run")


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(REPO)))
def test_a_file_has_one_job(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def test_papers_are_named_by_the_registry_only() -> None:
    for file in (f for f in SOURCES if f.relative_to(REPO).parts[0] in ("common", "benchmarks")):
        if file.name == "registry.py":
            continue
        strings = re.findall(
            rf'"({"|".join(PAPERS)})[.:](?:encoder|objective|fit|train)', file.read_text(encoding="utf-8")
        )
        assert not strings, f"{file.relative_to(REPO)} reaches {strings} past the registry"
