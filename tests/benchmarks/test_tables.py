"""`python -m benchmarks table` and `tables`: what the commands print, take and return."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import published, tables

TASKS = published.load("angle-sts").columns  # column -> task


def published_row(name: str) -> published.Row:
    return next(row for row in published.load("angle-sts").rows if row.id == name)


def as_published(name: str, **shift: float) -> dict[str, float]:
    """Per task what the row prints, moved per column by `shift`."""
    return {TASKS[c]: value + shift.get(c, 0.0) for c, value in published_row(name).values.items()}


def test_the_index_lists_all(capsys):
    with pytest.raises(SystemExit) as done:
        tables.main_index([])
    assert done.value.code in (0, None)
    text = capsys.readouterr().out
    assert all(f"| {name} " in text for name in published.names())
    assert all(len(line) <= 160 for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (-5.0, 1)])
def test_exit_codes(tmp_path, score_folder, capsys, shift, code):
    score_folder(tmp_path / "angle-sts" / "angle-bert", as_published("angle-bert", STS12=shift))
    with pytest.raises(SystemExit) as done:
        tables.main(["angle-sts", "--results", str(tmp_path)])
    assert (done.value.code or 0) == code
    assert "angle-bert" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["angle-st"], ["angle-sts", "--format", "html"], ["angle-sts", "--result", "x"]])
def test_wrong_use_is_2_and_one_line(argv, capsys):
    with pytest.raises(SystemExit) as done:
        tables.main(argv)
    assert done.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_tables_and_wrong_flags_of_a_study_wait_for_no_torch():
    modules = "benchmarks.tables, benchmarks.compare, benchmarks.study"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rows_can_be_asked_for(capsys, tmp_path):
    words = ["inbedder-all-layers", "--results", str(tmp_path), "--rows", "model=opt-2.7b-qa*", "mode=first"]
    with pytest.raises(SystemExit) as done:
        tables.main(words)
    assert (done.value.code or 0) == 0
    text = capsys.readouterr().out
    assert sum(line.startswith("| opt-2.7b-qa-ml20.first.") for line in text.splitlines()) == 33


def test_the_tables_of_the_issue_are_listed(capsys):
    with pytest.raises(SystemExit):
        tables.main_index([])
    words = capsys.readouterr().out.split()
    wanted = (
        "angle-sts bellm-sts baselines-sts llm2vec-unsupervised llm2vec-supervised llm2vec-per-task llm2vec-tasks15"
    )
    wanted += " llm2vec-word-level inbedder-awareness inbedder-generic inbedder-robustness inbedder-all-layers"
    wanted += " bge-icl-mteb mteb-official " + " ".join(f"bge-icl-table{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9))
    assert [name for name in wanted.split() if name not in words] == []
