from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks import published
from common.errors import InputError

PROGRAMS = (
    "bash scripts/",
    "python -m benchmarks run ",
    "python -m benchmarks mteb ",
    "python -m benchmarks transfer ",
    "python -m inbedder.eval ",
)


@pytest.mark.parametrize("name", published.names())
def test_every_row_has_a_source_and_a_command_or_the_word_quoted(name):
    table = published.load(name)
    assert table.rows
    for row in table.rows:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", row.id), f"{name}: {row.id} can't name a folder"
        assert row.source
        assert row.role
        assert row.command == "quoted" or row.command.startswith(PROGRAMS), row.command
        if " --output " in row.command:
            assert f" --output results/{row.results}" in row.command, "the results lie elsewhere than the table looks"
        elif row.command != "quoted":
            script = shlex.split(row.command)[1]
            assert Path(script).stem.removeprefix("word-") in row.results, (
                f"{name}: {row.id} is looked for in {row.results}"
            )
        if row.command.startswith("bash") and len(row.command.split()) == 2 and name != "mteb-official":
            assert row.role == "own" or "word-" in row.command or row.status != "verified", f"{name}: {row.id}"


# The weights that the papers released: rows of these have a command, in every table that a program of ours measures.
RELEASED = {
    "llm2vec-unsupervised": 8,
    "llm2vec-supervised": 8,
    "llm2vec-per-task": 8,
    "llm2vec-tasks15": 6,
    "llm2vec-word-level": 6,
    "bge-icl-mteb": 4,
    "bge-icl-table1": 4,
    "bge-icl-table8": 2,
    "bge-icl-table9": 2,
}


@pytest.mark.parametrize(("name", "count"), RELEASED.items())
def test_rows_of_released_models_can_be_reproduced(name, count):
    own = [row for row in published.load(name).rows if row.role == "own"]
    assert [row.id for row in own if row.command == "quoted"] == []
    assert len(own) == count


def test_the_last_layer_of_the_released_inbedder_models_has_a_command():
    scripts = {
        "llama-2-7b-hf-qa-ml20.first.32": "llama-2-7b-inbedder",
        "opt-2.7b-qa-ml20.first.32": "opt-2.7b-inbedder",
        "opt-1.3b-qa-ml20.first.24": "opt-1.3b-inbedder",
        "roberta-large-qa-ml3.answer-mean.24": "roberta-large-inbedder",
    }
    for name in ("inbedder-awareness", "inbedder-generic", "inbedder-all-layers"):
        rows = {row.id: row for row in published.load(name).rows}
        for row, script in scripts.items():
            assert rows[row].command == f"bash scripts/inbedder/{script}.sh"
            assert rows[row].is_target


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


# Table -> row -> average: as printed, and what it is from the row's own scores. Nothing else in any table is off.
SLIPS = {
    "angle-sts": {"sbert": {"Avg": (74.89, 74.86)}},
    "angle-zh-sts": {"text2vec-base-chinese-paraphrase": {"Avg": (63.08, 63.22)}},
    "llm2vec-supervised": {"gritlm-mistral-7b-v1-public-data": {"Avg(56)": (64.7, 64.67)}},  # categories to one decimal
    "llm2vec-tasks15": {  # the averages of Table 5, the scores of Table 11
        "sheared-llama-1.3b-unsup-simcse": {"Avg(15)": (52.4, 52.37)},
        "llama-2-7b-chat-unsup-simcse": {"Avg(15)": (58.97, 58.88)},
        "mistral-7b-instruct-v0.2-unsup-simcse": {"Avg(15)": (60.5, 60.43)},
    },
    "baselines-transfer": {"bert-avg": {"Avg": (84.94, 84.95)}},
    "bge-icl-mteb": {"full-zero-shot": {"Clust(11)": (57.51, 57.57)}, "full-few-shot": {"Rerank(4)": (59.82, 59.85)}},
    "bge-icl-table1": {
        "full-e5-mistral-7b-instruct": {"Avg(56)": (66.63, 66.64)},
        "full-bge-en-icl-zero-shot": {"Avg(56)": (71.24, 71.23)},
        "public-gritlm-7b": {"Avg(56)": (64.7, 64.67)},
    },
    "bge-icl-table4": {"wo-in-context-learning": {"Avg(56)": (64.83, 64.86)}},
    "bge-icl-table5": {"causal-last-token-wo-icl": {"Avg(56)": (64.83, 64.86)}},
    "bge-icl-table8": {
        "nv-embed-v1": {"Rerank(4)": (60.59, 60.54)},
        "gte-qwen2-7b-instruct": {"Clust(11)": (56.92, 56.74), "Avg(56)": (70.24, 70.21)},
        "full-zero-shot": {"Clust(11)": (57.51, 57.57)},
        "full-few-shot": {"Rerank(4)": (59.82, 59.85)},
    },
}


def test_the_averages_that_do_not_follow_from_their_rows_are_these():
    found = {}
    for name in published.names():
        table = published.load(name)
        for row in table.rows:
            for average, mean in table.slips(row).items():
                found.setdefault(name, {}).setdefault(row.id, {})[average] = (row.averages[average], round(mean, 2))
    assert found == SLIPS


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
        **{"columns": {"STS12": "STS12"}, "averages": [{"column": "Avg"}]},
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


def test_scores_in_a_file_of_their_own_and_weighted_averages(tmp_path):
    (tmp_path / "s.csv").write_text("task,e5,gte\nSciFact,60.0,50.0\nBanking77,80.0,70.0\nSTS12,,1.0\n")
    lines = "id,model,Avg,role,source,status,command,results,note\n"
    lines += "e5,E5,65.0,baseline,s,verified,quoted,,\ngte,GTE,60.0,baseline,s,verified,quoted,shared/gte,\n"
    average = {"column": "Avg", "weights": {"SciFact": 3, "Banking77": 1}}
    folder = folder_with(tmp_path, lines, scores="s.csv", columns={"SciFact": "SciFact"}, averages=[average])
    table = published.load("t", folder)
    assert table.columns == {"SciFact": "SciFact", "Banking77": None, "STS12": None}
    e5, gte = table.rows
    assert (e5.values, e5.average) == ({"SciFact": 60.0, "Banking77": 80.0, "STS12": None}, 65.0)
    assert (e5.results, gte.results) == ("t/e5", "shared/gte")
    assert table.slips(e5) == {}  # (3 * 60 + 80) / 4
    assert table.slips(gte) == {"Avg": pytest.approx(55.0)}
    assert e5.labels == {"model": "E5"}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("task,a,b\nSTS12,1,2\n", r"s\.csv: its columns are not the rows of t\.csv: b"),
        ("task\nSTS12\n", "its columns are not the rows of t.csv: a"),
        ("task,a\nSTS12,1\nSTS12,2\n", "a task stands there twice"),
        ("name,a\nSTS12,1\n", "no column task"),
        ("task,a\nSTS12,high\n", "'high' is not a score"),
    ],
)
def test_bad_scores_are_named(tmp_path, scores, message):
    (tmp_path / "s.csv").write_text(scores)
    lines = HEAD.replace("STS12,", "") + "a,1.0,own,s,verified,quoted,\n"
    with pytest.raises(InputError, match=message):
        published.load("t", folder_with(tmp_path, lines, scores="s.csv", columns="tasks"))


def test_an_average_of_averages_and_harmonic_means(tmp_path):
    lines = "id,a,b,c,H,Avg,role,source,status,command,note\nx,60,40,10,48,29,own,s,verified,quoted,\n"
    lines += "y,,,,50,30,own,s,verified,quoted,\n"
    means = [{"column": "H", "of": ["a", "b"], "mean": "harmonic"}, {"column": "Avg", "of": ["H", "c"]}]
    table = published.load("t", folder_with(tmp_path, lines, columns={"a": "A", "b": "B", "c": None}, averages=means))
    x, y = table.rows
    assert table.averages(x.values) == {"H": pytest.approx(48.0), "Avg": pytest.approx(29.0)}
    assert table.slips(x) == table.slips(y) == {}
    assert table.averages(y.values) == {"H": None, "Avg": None}
    assert table.averages({"a": 0.0, "b": 40.0, "c": 10.0})["H"] == 0.0


def test_an_average_of_no_group_is_named(tmp_path):
    with pytest.raises(InputError, match="the average Avg is of 'sts-11', which is no group"):
        published.load("t", folder_with(tmp_path, HEAD, averages=[{"column": "Avg", "of": "sts-11"}]))
