from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import yaml

from benchmarks import published
from common.errors import InputError


def test_every_table_loads_and_every_row_has_a_source_and_a_command_or_the_word_quoted():
    assert {"angle-sts", "baselines-sts", "angle-secondary"} <= set(published.names())
    for name in published.names():
        table = published.load(name)
        assert table.rows
        for row in table.rows:
            assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", row.id), f"{name}: {row.id} can't name a folder"
            assert row.source
            assert row.role
            runs = ("bash scripts/", "python -m benchmarks run ")
            assert row.command == "quoted" or row.command.startswith(runs), row.command
            if row.command.startswith("python"):
                assert row.command.endswith(f" --output results/{name}/{row.id}")
            if row.command.startswith("bash") and len(row.command.split()) == 2:
                assert row.is_target, f"{name}: {row.id} has a script but is no model of the paper"


def test_angle_rows():
    table = published.load("angle-sts")
    assert len(table.rows) == 22
    own = {row.id: row.command for row in table.rows if row.is_target}
    assert own == {
        name: f"bash scripts/angle/{name}.sh"
        for name in (
            "angle-bert",
            "angle-llama2-7b",
            "angle-llama-7b-nli-v2",
            "angle-llama-13b-nli",
            "angle-bert-base-uncased-nli-en-v1",
        )
    }
    llama = next(row for row in table.rows if row.id == "angle-llama2-7b")
    assert list(llama.values.values()) == [78.68, 90.58, 85.49, 89.56, 86.91, 88.92, 81.18]
    assert llama.average == 85.90
    assert table.columns["STSB"] == "STSBenchmark"
    assert table.columns["SICKR"] == "SICK-R"
    assert published.load("angle-secondary").rows[0].status == "secondary"


def test_the_tolerance_is_what_its_reason_says():
    """The figures that the reason quotes follow from the rows."""
    table = published.load("angle-sts")
    rows = {row.id: row for row in table.rows}

    def apart(a: str, b: str) -> tuple[float, float]:
        tasks = [abs(rows[a].values[c] - rows[b].values[c]) for c in table.columns]
        return round(max(tasks), 2), round(abs(rows[a].average - rows[b].average), 2)

    assert apart("angle-bert", "angle-bert-base-uncased-nli-en-v1") == (0.48, 0.06)
    assert apart("angle-llama2-7b", "angle-llama-7b-nli-v2") == (0.32, 0.06)
    assert apart("angle-bert", "simcse-bert-sup-nli")[1] == 0.80
    assert table.tolerance.ok_task >= 0.48
    assert table.tolerance.close_average <= 0.80 / 2


def test_only_sbert_has_an_average_that_does_not_follow():
    slips = {}
    for name in ("angle-sts", "baselines-sts"):
        table = published.load(name)
        slips |= {row.id: (row.average, table.slip(row)) for row in table.rows if table.slip(row) is not None}
    assert slips == {"sbert": (74.89, pytest.approx(74.86))}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["angle-sts", "baselines-sts", "angle-secondary"])
def test_nothing_was_changed_or_lost_on_the_way_here(shared, name):
    original = {"angle-sts": "angle_sts", "baselines-sts": "sts_baselines"}.get(name, name.replace("-", "_"))
    with open(shared / "published" / f"{original}.csv", newline="", encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    with open(published.FOLDER / f"{name}.csv", newline="", encoding="utf-8") as file:
        ours = list(csv.DictReader(file))
    assert len(ours) == len(theirs)
    for mine, row in zip(ours, theirs):
        assert mine["note"].startswith(row.pop("note"))
        assert {key: mine[key] for key in row} == row


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="did you mean angle-sts"):
        published.load("angle_sts")
    with pytest.raises(InputError, match="benchmarks tables"):
        published.load("zzz")


def entry(**changes: object) -> dict[str, object]:
    limits = {"task": 1.0, "average": 0.5}
    return {
        **{"title": "A", "paper": "P", "arxiv": "1", "number": "T", "file": "t.csv"},
        **{"columns": {"STS12": "STS12"}, "average": {"column": "Avg"}},
        "tolerance": {"ok": limits, "close": limits, "reason": "none"},
    } | changes


def folder_with(path: Path, lines: str, **changes: object) -> Path:
    index = {"statuses": {"verified": "yes"}, "tables": {"t": entry(**changes)}}
    (path / "tables.yaml").write_text(yaml.safe_dump(index))
    (path / "t.csv").write_text(lines)
    return path


HEAD = "id,STS12,Avg,role,source,status,command,note\n"


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (HEAD + "a,1.0,1.0,own,s,verified,quoted,\n" * 2, {}, r"t\.csv: the id a stands there twice"),
        (HEAD + "a,high,1.0,own,s,verified,quoted,\n", {}, r"t\.csv: row a: 'high' is not a score"),
        (HEAD + "a,1.0,1.0,own,s,guessed,quoted,\n", {}, "row a has the unknown status 'guessed'"),
        ("id,STS12\na,1.0\n", {}, r"t\.csv: no column role, source, status, command, note, Avg"),
        (HEAD, {"tolerance": None}, "has no tolerance"),
    ],
)
def test_bad_data_is_named(tmp_path, lines, changes, message):
    with pytest.raises(InputError, match=message):
        published.load("t", folder_with(tmp_path, lines, **changes))


def test_long_tables_and_weighted_averages(tmp_path):
    lines = "id,model,dataset,score,role,source,status,command,note\n" + "".join(
        f"{model},{model},{task},{score},baseline,s,verified,quoted,\n"
        for model, values in {"e5": (60.0, 80.0, 65.0), "gte": (50.0, 70.0, 60.0)}.items()
        for task, score in zip(("SciFact", "Banking77", "Avg"), values)
    )
    folder = folder_with(
        tmp_path,
        lines,
        layout="long",
        task="dataset",
        value="score",
        columns={"SciFact": "SciFact"},
        average={"column": "Avg", "weights": {"SciFact": 3, "Banking77": 1}},
    )
    table = published.load("t", folder)
    assert table.columns == {"SciFact": "SciFact", "Banking77": None}
    e5, gte = table.rows
    assert (e5.id, e5.values, e5.average) == ("e5", {"SciFact": 60.0, "Banking77": 80.0}, 65.0)
    assert table.slip(e5) is None  # (3 * 60 + 80) / 4
    assert table.slip(gte) == pytest.approx(55.0)
    assert e5.labels["model"] == "e5"
