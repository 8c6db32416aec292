"""The quickstart: rows from the registry, a process per row, nothing old printed after a change."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks import cells, quickstart
from benchmarks.quickstart import REFERENCE, QuickstartConfig, Row, cell_of, rows_of
from common import registry
from common.errors import InputError


def test_every_registered_method_has_its_rows() -> None:
    rows = rows_of(QuickstartConfig())
    assert rows[0] == Row(REFERENCE, "minilm", False)
    for method in registry.methods():
        if method != REFERENCE:
            assert Row(method, "smollm2-135m", False) in rows
            assert (Row(method, "smollm2-135m", True) in rows) == bool(registry.get(method).fit)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="budget_tokens 0"):
        QuickstartConfig(budget_tokens=0)
    with pytest.raises(InputError, match="did you mean 'angle'"):
        QuickstartConfig(methods=["angel"])
    with pytest.raises(InputError, match="--row nothing"):
        quickstart.run(QuickstartConfig(row="nothing"))


def test_a_row_is_another_after_a_change_of_its_settings() -> None:
    zero_shot, trained = Row("angle", "m", False), Row("angle", "m", True)
    config, other = QuickstartConfig(), QuickstartConfig(budget_tokens=77)
    assert cell_of(config, trained).plan != cell_of(other, trained).plan
    assert cell_of(config, zero_shot).plan == cell_of(other, zero_shot).plan
    assert cell_of(config, zero_shot).version == cells.sources_hash("angle")


@pytest.mark.slow
def test_rows_run_once_and_are_written(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cells, "sources_hash", lambda method: "one version")  # whoever edits while this test runs
    config = QuickstartConfig(budget_tokens=2000, model=str(llama_folder), methods=["angle"], output=tmp_path / "out")
    assert quickstart.run(config) == 0
    first = capsys.readouterr().out
    assert "zero-shot" in first
    assert "NOT comparable" in first
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [r["trained"] for r in table["rows"]] == [False, True]
    assert table["rows"][1]["train_tokens"] >= 2000
    with (tmp_path / "out" / "table.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 2
    assert (tmp_path / "out" / "table.md").read_text().count("\n|") >= 3

    def no_process(*_: object) -> None:
        raise AssertionError("a row was run again")

    monkeypatch.setattr(cells, "in_own_process", no_process)
    assert quickstart.run(config) == 0
    assert "done before" in capsys.readouterr().out
    (tmp_path / "out" / "angle--trained" / "cell.json").write_text("{half")
    with pytest.raises(AssertionError, match="run again"):
        quickstart.run(config)
