from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from benchmarks import published, tables
from benchmarks.tables import judge, judge_row
from common.errors import InputError

TASKS = published.load("angle-sts").columns  # column -> task


def published_row(name: str) -> published.Row:
    return next(row for row in published.load("angle-sts").rows if row.id == name)


def as_published(name: str, **shift: float) -> dict[str, float]:
    """Per task what the row prints, moved per column by `shift`."""
    return {TASKS[c]: value + shift.get(c, 0.0) for c, value in published_row(name).values.items()}


@pytest.fixture
def verdict(tmp_path, score_folder):
    """The judgement of one row of angle-sts, for a folder of such scores."""

    def run(row: str, values: dict[str, float], **changes: object) -> tables.Judgement:
        score_folder(tmp_path / "angle-sts" / row, values, **changes)
        judgements = judge(published.load("angle-sts"), tmp_path)
        assert {j.verdict for j in judgements if j.row.id != row} == {"not run"}
        return next(j for j in judgements if j.row.id == row)

    return run


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ({}, "OK"),
        ({"STS12": 0.5}, "OK"),
        ({"STS12": -0.504}, "OK"),  # prints as 0.50
        ({"STS12": 0.506}, "CLOSE"),
        ({"STS12": -1.0}, "CLOSE"),
        ({"STS12": -1.006}, "OFF"),
        (dict.fromkeys(TASKS, 0.3), "CLOSE"),  # every task is within OK, the average is not
        (dict.fromkeys(TASKS, -0.45), "OFF"),
        ({"STS13": 2.0}, "OFF"),  # too good is not a reproduction either
    ],
)
def test_verdicts(verdict, shift, expected):
    judged = verdict("angle-bert", as_published("angle-bert", **shift))
    assert judged.verdict == expected
    assert tables.failed([judged]) == (expected == "OFF")


def test_a_compat_switch_is_said_and_never_ok(verdict):
    judged = verdict("angle-bert", as_published("angle-bert"), compat=["angle:pool-pad-mean"])
    assert judged.verdict == "CLOSE"
    assert any("--compat angle:pool-pad-mean" in note for note in judged.notes)


def test_a_compat_switch_does_not_excuse_what_is_off(verdict):
    values = as_published("angle-bert", STS12=-3.0)
    assert verdict("angle-bert", values, compat=["angle:pool-pad-mean"]).verdict == "OFF"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limit": 500, "n": 500}, "limited to 500 items"),
        ({"protocol": "mteb"}, "protocol mteb, the table's is senteval"),
        ({"suite": "sts-shipped"}, "suite sts-shipped, the table's is sts"),
        ({"metric": "pearson"}, "metric pearson, the table's is spearman"),
        ({"n": 100}, "100 items, the published task has"),
    ],
)
def test_what_was_made_otherwise_is_shown_but_not_compared(verdict, changes, reason):
    judged = verdict("angle-bert", as_published("angle-bert"), **changes)
    assert judged.verdict == "not compared"
    assert judged.average is None
    assert set(judged.differences.values()) == {None}
    assert any(reason in note for note in judged.notes)
    lines = tables.format_table(published.load("angle-sts"), [judged])
    assert "75.09*" in lines


def test_some_tasks_are_not_a_whole_row(verdict):
    values = as_published("angle-bert")
    del values["SICK-R"]
    judged = verdict("angle-bert", values)
    assert (judged.verdict, judged.average) == ("partial", None)
    assert judged.ours["SICKR"] is None
    assert any("6 of 7 tasks run" in note for note in judged.notes)


def test_one_task_far_off_is_off_before_the_others_are_run(verdict):
    assert verdict("angle-bert", {"STS12": 70.0}).verdict == "OFF"


def test_third_party_and_secondary_rows_are_never_targets(verdict):
    judged = verdict("ese-uae-large", as_published("ese-uae-large", STS12=-30.0))
    assert judged.verdict == "no target"
    assert not tables.failed([judged])


def test_a_baseline_that_is_off_does_not_fail_the_table(verdict):
    judged = verdict("sbert", as_published("sbert", STS12=-30.0))
    assert judged.verdict == "OFF"
    assert not tables.failed([judged])


def test_rows_with_an_average_only_are_judged_by_it(score_folder, tmp_path):
    table = published.load("baselines-sts")
    row = next(row for row in table.rows if row.id == "unsup-simcse-bert-base")
    unsup = as_published("simcse-bert-unsup")
    folder = score_folder(tmp_path / "baselines-sts" / row.id, unsup)
    judged = next(j for j in judge(table, tmp_path) if j.row.id == row.id)
    assert (judged.verdict, judged.average_difference) == ("OK", 0.0)
    (folder / "STS12.json").unlink()
    assert next(j for j in judge(table, tmp_path) if j.row.id == row.id).verdict == "partial"


def test_nothing_run_prints_dashes_and_never_the_papers_number(tmp_path):
    table = published.load("angle-sts")
    judgements = judge(table, tmp_path)
    text = tables.format_table(table, judgements)
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 22
    for line, row in zip(lines, table.rows):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == row.id
        assert cells[-2:] == ["-", "not run"]
        assert [float(cell) for cell in cells[2:9]] == list(row.values.values())
    assert "74.89 !" in text
    assert "! sbert: the published average 74.89 is not that of its row, 74.86." in text
    assert all(len(line) <= 160 for line in lines)
    records = json.loads(tables.format_table(table, judgements, "json"))["rows"]
    assert {record[f"{c} ours"] for record in records for c in table.columns} == {None}


def test_ours_and_the_difference_stand_below(tmp_path, score_folder):
    table = published.load("angle-sts")
    score_folder(tmp_path / "angle-sts" / "angle-bert", as_published("angle-bert", STS12=0.126), model="my-bert")
    lines = tables.format_table(table, judge(table, tmp_path)).splitlines()
    at = next(i for i, line in enumerate(lines) if "| angle-bert " in line)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[at : at + 3]]
    assert cells[0][2] == "75.09"
    assert cells[0][-3:] == ["82.37", "82.39", "OK"]
    assert cells[1][0] == "ours"
    assert cells[1][2] == "75.22"
    assert cells[2][0] == "difference"
    assert cells[2][2:4] == ["+0.13", "+0.00"]
    assert cells[2][-2] == "+0.02"
    assert "angle-bert: ours is sentence-transformer with my-bert." in lines


def test_csv_and_json_keep_full_precision_and_sources(tmp_path, score_folder):
    table = published.load("angle-sts")
    score_folder(tmp_path / "angle-sts" / "angle-bert", as_published("angle-bert", STS12=0.123456))
    judgements = judge(table, tmp_path)
    rows = list(csv.DictReader(io.StringIO(tables.format_table(table, judgements, "csv"))))
    assert len(rows) == 22
    mine = next(row for row in rows if row["id"] == "angle-bert")
    assert float(mine["STS12 ours"]) == pytest.approx(75.213456)
    assert (mine["STS12 published"], mine["verdict"]) == ("75.09", "OK")
    assert mine["command"] == "bash scripts/angle/angle-bert.sh"
    document = json.loads(tables.format_table(table, judgements, "json"))
    assert document["protocol"] == "senteval"
    assert document["tolerance"]["ok_task"] == 0.5
    sbert = next(row for row in document["rows"] if row["id"] == "sbert")
    assert sbert["average follows from its row"] is False


@pytest.mark.parametrize(("style", "start"), [("markdown", "**AnglE"), ("latex", "\\begin{table}")])
def test_other_formats(tmp_path, style, start):
    table = published.load("angle-sts")
    text = tables.format_table(table, judge(table, tmp_path), style)
    assert text.startswith(start)
    assert "angle-llama-13b-nli" in text


def test_tables_with_many_scores_are_printed_one_line_per_score(payload, tmp_path):
    many = [f"T{i}" for i in range(20)]
    row = published.Row("a", dict.fromkeys(many, 50.0), 50.0, "own", "s", "verified", "quoted", "")
    table = published.PublishedTable(
        *("many", "Many", "P", "1", "T9"),
        columns={task: task for task in many},
        average_column="Avg",
        weights=dict.fromkeys(many, 1.0),
        suite=None,
        protocol=None,
        metric=None,
        sizes={},
        tolerance=published.load("angle-sts").tolerance,
        rows=(row,),
    )
    lines = tables.format_table(table, [judge_row(table, row, {})]).splitlines()
    assert sum("| a   | own" in line for line in lines) == 21
    assert sum("not run" in line for line in lines) == 1


def test_a_bad_result_is_named(tmp_path, score_folder):
    folder = score_folder(tmp_path / "angle-sts" / "angle-bert", {"STS12": 75.0})
    (folder / "STS13.json").write_text("{")
    with pytest.raises(InputError, match=r"angle-bert/STS13\.json"):
        judge(published.load("angle-sts"), tmp_path)


def test_an_empty_folder_is_not_run(tmp_path):
    (tmp_path / "angle-sts" / "angle-bert").mkdir(parents=True)
    assert {j.verdict for j in judge(published.load("angle-sts"), tmp_path)} == {"not run"}


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


def test_the_commands_of_the_tables_import_no_torch():
    code = "import sys, benchmarks.tables, benchmarks.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
