from __future__ import annotations

import csv
import io
import json
import math

import pytest

from benchmarks.render import Table, render, render_records
from common.errors import InputError

TABLE = Table(
    title="Scores of a_b & c",
    columns=["row", "score", "seconds"],
    rows=[["a|b_c", 72.3699, 12.34], ["* d", None, 5]],
    notes=["* limited.", "  bash run.sh"],
    left=["row"],
    decimals={"seconds": 1},
    dividers=frozenset({0}),
)
RECORDS = [
    {"row": "a", "score": 72.369912345, "n": 3108, "marks": ["x", "y"]},
    {"row": "b", "score": None, "n": None},
]


def test_text_rounds_and_prints_a_dash_for_nothing():
    lines = render(TABLE, "text").splitlines()
    assert lines[0] == "Scores of a_b & c"
    assert "| a|b_c | 72.37 |    12.3 |" in lines
    assert "| * d   |     - |       5 |" in lines
    assert lines[-2:] == ["* limited.", "  bash run.sh"]
    assert sum(line.startswith("+-") for line in lines) == 4  # one of them between the rows


def test_nan_is_a_dash_too():
    assert "nan" not in render(Table("t", ["x"], [[math.nan]]), "text")


def test_long_notes_are_folded_but_commands_are_not():
    long = Table("t", ["x"], [["1"]], notes=["word " * 60, "  bash " + "x" * 300])
    lines = render(long, "text").splitlines()
    assert max(len(line) for line in lines if "word" in line) <= 160
    assert lines[-1] == "  bash " + "x" * 300


def test_wide_cells_are_folded_in_text_only():
    table = Table("t", ["x"], [["one two three"]], widths={"x": 5})
    assert "one two three" not in render(table, "text")
    assert "one two three" in render(table, "markdown")


def test_markdown_is_one_table_with_escaped_signs():
    lines = render(TABLE, "markdown").splitlines()
    assert lines[0] == "**Scores of a_b & c**"
    body = [line for line in lines if line.startswith("|")]
    assert len(body) == 4  # head, rule, two rows: dividers would break the table
    assert "a\\|b\\_c" in body[2]
    assert lines[-2:] == ["- \\* limited.", "- bash run.sh"]


def test_latex_is_escaped():
    text = render(TABLE, "latex")
    assert "\\caption{Scores of a\\_b \\& c}" in text
    assert "a|b\\_c & 72.37 & 12.3 \\\\" in text
    assert render(Table("{x}", ["\\y^~"], [["$5 #1 %"]]), "latex").count("\\$5 \\#1 \\%") == 1


def test_csv_keeps_precision_and_whole_numbers():
    rows = list(csv.DictReader(io.StringIO(render_records("t", {}, RECORDS, "csv"))))
    assert rows[0] == {"row": "a", "score": "72.369912345", "n": "3108", "marks": "x; y", "title": "t"}
    assert (rows[1]["score"], rows[1]["n"], rows[1]["marks"]) == ("", "", "")


def test_json_has_null_for_nothing():
    document = json.loads(render_records("t", {"fact": (1, math.nan)}, RECORDS, "json"))
    assert document == {"title": "t", "fact": [1, None], "rows": RECORDS}


def test_the_two_kinds_of_format_are_not_mixed_up():
    with pytest.raises(InputError, match="'csv'"):
        render(TABLE, "csv")
    with pytest.raises(InputError, match="'text'"):
        render_records("t", {}, RECORDS, "text")
