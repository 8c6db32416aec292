"""Published tables as they are printed: pages, views, rows that were asked for, formats."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from benchmarks import published
from benchmarks.judgement import judge
from benchmarks.table_view import best, format_table, select
from common.errors import InputError

TASKS = published.load("angle-sts").columns  # column -> task


def published_row(name: str) -> published.Row:
    return next(row for row in published.load("angle-sts").rows if row.id == name)


def as_published(name: str, **shift: float) -> dict[str, float]:
    """Per task what the row prints, moved per column by `shift`."""
    return {TASKS[c]: value + shift.get(c, 0.0) for c, value in published_row(name).values.items()}


def test_nothing_run_prints_dashes_and_never_the_papers_number(tmp_path):
    table = published.load("angle-sts")
    judgements = judge(table, tmp_path)
    text = format_table(table, judgements)
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 22
    for line, row in zip(lines, table.rows):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == row.id
        assert cells[-1] == "not run"
        assert [float(cell) for cell in cells[2:9]] == list(row.values.values())
    assert "74.89 !" in text
    assert "! sbert: the published average 74.89 is not that of its row, 74.86." in text
    assert all(len(line) <= 160 for line in lines)
    records = json.loads(format_table(table, judgements, "json"))["rows"]
    assert {record[f"{c} ours"] for record in records for c in table.columns} == {None}


def test_ours_and_the_difference_stand_below(tmp_path, score_folder):
    table = published.load("angle-sts")
    score_folder(tmp_path / "angle-sts" / "angle-bert", as_published("angle-bert", STS12=0.126), model="my-bert")
    lines = format_table(table, judge(table, tmp_path)).splitlines()
    at = next(i for i, line in enumerate(lines) if "| angle-bert " in line)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[at : at + 3]]
    assert cells[0][2] == "75.09"
    assert cells[0][-2:] == ["82.37", "OK"]
    assert cells[1][0] == "ours"
    assert cells[1][2] == "75.22"
    assert cells[1][-2] == "82.39"
    assert cells[2][0] == "difference"
    assert cells[2][2:4] == ["+0.13", "+0.00"]
    assert cells[2][-2] == "+0.02"
    assert "angle-bert: ours is sentence-transformer with my-bert." in lines


def test_csv_and_json_keep_full_precision_and_sources(tmp_path, score_folder):
    table = published.load("angle-sts")
    score_folder(tmp_path / "angle-sts" / "angle-bert", as_published("angle-bert", STS12=0.123456))
    judgements = judge(table, tmp_path)
    rows = list(csv.DictReader(io.StringIO(format_table(table, judgements, "csv"))))
    assert len(rows) == 22
    mine = next(row for row in rows if row["id"] == "angle-bert")
    assert float(mine["STS12 ours"]) == pytest.approx(75.213456)
    assert (mine["STS12 published"], mine["verdict"]) == ("75.09", "OK")
    assert mine["command"] == "bash scripts/angle/angle-bert.sh"
    document = json.loads(format_table(table, judgements, "json"))
    assert document["protocol"] == "senteval"
    assert document["tolerance"]["ok_task"] == 0.5
    sbert = next(row for row in document["rows"] if row["id"] == "sbert")
    assert sbert["average follows from its row"] is False


@pytest.mark.parametrize(("style", "start"), [("markdown", "**AnglE"), ("latex", "\\begin{table}")])
def test_other_formats(tmp_path, style, start):
    table = published.load("angle-sts")
    text = format_table(table, judge(table, tmp_path), style)
    assert text.startswith(start)
    assert "angle-llama-13b-nli" in text


# ------------------------------------------------------------------------------------------ tables of many scores


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_many_scores_stand_one_per_line_with_their_categories(tmp_path):
    table = published.load("bge-icl-mteb")
    text = format_table(table, judge(table, tmp_path))
    lines = cells(text)
    assert lines[1] == ["row", *(row.id for row in table.rows)]
    at = {line[0]: number for number, line in enumerate(lines)}
    assert all(at[task] < at["= Retr(15)"] for task in table.groups["retrieval-15"])
    assert all(at["= Retr(15)"] < at[task] < at["= Rerank(4)"] for task in table.groups["reranking-4"])
    assert lines[at["SciFact"]][1:] == ["78.33", "79.09", "78.10", "79.65"]
    assert lines[at["= Clust(11)"]][1] == "57.57"
    assert lines[at["= Clust(11)"] + 1] == ["as printed", "57.51 !", "57.89", "42.61", "46.55"]
    assert lines[at["= Avg(56)"] + 1] == ["as printed", "71.24", "71.67", "64.67", "66.08"]
    assert lines[-1] == ["verdict", *["not run"] * 4]
    assert "! full-zero-shot: the published average Clust(11) 57.51 is not that of its row, 57.57." in text
    assert "! full-few-shot: the published average Rerank(4) 59.82 is not that of its row, 59.85." in text


def test_what_was_run_has_a_page_of_its_own(tmp_path, payload):
    from benchmarks.results import write_result

    table = published.load("bge-icl-mteb")
    facts = {"suite": "mteb", "protocol": "mteb", "metric": "main", "n": 10}
    folder = tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot"
    for task, score in {"SciFact": 79.19, "STS12": 78.0}.items():
        write_result(folder, payload(task, score=score, **facts))
    text = format_table(table, judge(table, tmp_path))
    assert "full-few-shot: partial" in text
    page = {line[0]: line for line in cells(text[text.index("full-few-shot: partial") :])}
    assert page["SciFact"] == ["SciFact", "79.09", "79.19", "+0.10"]
    assert page["= Retr(15)"] == ["= Retr(15)", "62.16", "-", "-"]
    assert page["SICK-R"][2:] == ["-", "-"]
    assert "full-few-shot: 2 of 56 tasks run" in text


@pytest.mark.parametrize("name", published.names())
def test_every_table_prints_within_a_page_and_names_every_row(name, tmp_path):
    table = published.load(name)
    judgements = judge(table, tmp_path)
    text = format_table(table, judgements)
    boxes = [line for line in text.splitlines() if line.startswith(("|", "+"))]
    assert max(map(len, boxes)) <= 160, max(boxes, key=len)
    shown = best(table, judgements) if table.view.best_of else judgements
    flat = re.sub(r"[\s|]", "", text)
    assert [j.row.id for j in shown if j.row.id not in text and j.row.id not in flat and len(j.row.id) < 16] == []
    assert (f"{len(judgements) - len(shown)} more rows" in text) == (len(shown) < len(judgements))
    assert "nan" not in text.split()


def test_of_all_layers_the_best_of_each_model_and_mode_is_shown(tmp_path):
    table = published.load("inbedder-all-layers")
    judgements = judge(table, tmp_path)
    text = format_table(table, judgements)
    shown = [line[0] for line in cells(text)[1:]]
    assert "llama-2-7b-hf-qa-ml40.first.26" in shown
    assert "llama-2-7b-hf-qa-ml40.first.32" not in shown
    layers = [j.row for j in judgements if j.row.id.startswith("llama-2-7b-hf-qa-ml40.first.")]
    assert len(layers) == 33
    awareness = {row.id: table.averages(row.values)["awareness"] for row in layers}
    assert max((a, name) for name, a in awareness.items() if a is not None)[1] == "llama-2-7b-hf-qa-ml40.first.26"
    assert "Recomputed here, the source prints none: generic, awareness." in text
    everything = format_table(table, judgements, "text", ["model=Llama-2-7b-hf-qa-ml=40", "mode=first"])
    assert len(cells(everything)) == 34
    assert len(json.loads(format_table(table, judgements, "json"))["rows"]) == 4877


def test_rows_are_chosen_by_id_and_label(tmp_path):
    judgements = judge(published.load("llm2vec-unsupervised"), tmp_path)
    assert [j.row.id for j in select(judgements, ["*simcse", "kind=own"])] == [
        f"{m}-llm2vec-wo-simcse" for m in ("s-llama-1.3b", "llama-2-7b", "mistral-7b", "meta-llama-3-8b")
    ]
    assert len(select(judgements, [])) == 20
    assert len(select(judgements, ["method=Echo"])) == 4
    with pytest.raises(InputError, match=r"no row has the label modell; known: .*method, model"):
        select(judgements, ["modell=x"])
    with pytest.raises(InputError, match="no row of the table fits"):
        select(judgements, ["nothing*"])


def test_a_command_of_many_rows_is_named_once(tmp_path):
    table = published.load("inbedder-awareness")
    text = format_table(table, judge(table, tmp_path))
    assert text.count("bash scripts/inbedder/llama-2-7b-inbedder.sh\n") == 1


@pytest.mark.parametrize("style", ["markdown", "latex"])
def test_pages_in_other_formats(tmp_path, style):
    table = published.load("mteb-official")
    text = format_table(table, judge(table, tmp_path), style)
    assert text.count("rows 7 to 12 of 13" if style == "markdown" else "\\caption") >= 1
    assert "llm2vec-sheared-llama-mntp-supervised" in text
