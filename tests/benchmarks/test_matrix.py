"""The results matrix of the README comes from result folders and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import matrix
from common.errors import InputError


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{matrix.START}\nold\n{matrix.END}\nafter\n")
    return file


def test_markers_are_needed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    bare = tmp_path / "README.md"
    bare.write_text("nothing here")
    with pytest.raises(InputError, match="markers"):
        matrix.run(matrix.MatrixConfig(results=tmp_path / "results", readme=bare))


def test_check_tells_out_of_date_and_writing_mends_it(tmp_path: Path, readme: Path) -> None:
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    config = {"results": folder, "readme": readme}
    assert matrix.run(matrix.MatrixConfig(**config, check=True)) == 1
    assert matrix.run(matrix.MatrixConfig(**config)) == 0
    assert matrix.run(matrix.MatrixConfig(**config, check=True)) == 0
    text = readme.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text


def test_folders_of_other_results_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "bge_icl" / "fewshot").mkdir(parents=True)
    (tmp_path / "bge_icl" / "fewshot" / "table.json").write_text("[]")
    assert "fewshot" not in matrix.matrix(tmp_path)
