"""Our results held against published rows: verdicts, what may be compared, groups, shared folders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import published
from benchmarks.judgement import Judgement, failed, judge, judge_row
from benchmarks.table_view import format_table
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

    def run(row: str, values: dict[str, float], **changes: object) -> Judgement:
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
    assert failed([judged]) == (expected == "OFF")


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
    lines = format_table(published.load("angle-sts"), [judged])
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
    assert not failed([judged])


def test_a_baseline_that_is_off_does_not_fail_the_table(verdict):
    judged = verdict("sbert", as_published("sbert", STS12=-30.0))
    assert judged.verdict == "OFF"
    assert not failed([judged])


def test_rows_with_an_average_only_are_judged_by_it(score_folder, tmp_path):
    table = published.load("baselines-sts")
    row = next(row for row in table.rows if row.id == "unsup-simcse-bert-base")
    unsup = as_published("simcse-bert-unsup")
    folder = score_folder(tmp_path / "baselines-sts" / row.id, unsup)
    judged = next(j for j in judge(table, tmp_path) if j.row.id == row.id)
    assert (judged.verdict, judged.average_difference) == ("OK", 0.0)
    (folder / "STS12.json").unlink()
    assert next(j for j in judge(table, tmp_path) if j.row.id == row.id).verdict == "partial"


def test_a_bad_result_is_named(tmp_path, score_folder):
    folder = score_folder(tmp_path / "angle-sts" / "angle-bert", {"STS12": 75.0})
    (folder / "STS13.json").write_text("{")
    with pytest.raises(InputError, match=r"angle-bert/STS13\.json"):
        judge(published.load("angle-sts"), tmp_path)


def test_an_empty_folder_is_not_run(tmp_path):
    (tmp_path / "angle-sts" / "angle-bert").mkdir(parents=True)
    assert {j.verdict for j in judge(published.load("angle-sts"), tmp_path)} == {"not run"}


# ------------------------------------------------------------------------------ categories, groups, further scores


def mteb(values: dict[str, float], payload, folder, **changes: object):
    """A result folder as `benchmarks mteb` writes it."""
    from benchmarks.results import write_result

    for task, score in values.items():
        facts = {"suite": "mteb", "protocol": "mteb", "metric": "main", "score": score, "n": 10}
        write_result(folder, payload(task, **(facts | changes)))
    return folder


@pytest.fixture
def few_shot() -> dict[str, float]:
    """Task -> the published score of BGE-EN-ICL, full data, few-shot."""
    row = next(row for row in published.load("bge-icl-mteb").rows if row.id == "full-few-shot")
    return {task: value for task, value in row.values.items() if value is not None}


def of_row(name: str, row: str, results) -> Judgement:
    return next(j for j in judge(published.load(name), results) if j.row.id == row)


def test_one_run_is_held_against_all_tables_that_print_it(few_shot, payload, tmp_path):
    mteb(few_shot, payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    per_task = of_row("bge-icl-mteb", "full-few-shot", tmp_path)
    assert per_task.verdict == "OK"
    assert per_task.averages["Rerank(4)"] == pytest.approx(59.855)  # of the tasks, not the printed 59.82
    categories = of_row("bge-icl-table1", "full-bge-en-icl-few-shot", tmp_path)
    assert categories.verdict == "OK"
    assert categories.differences["Rerank(4)"] == pytest.approx(0.04, abs=0.011)
    assert categories.average_difference == pytest.approx(0.0, abs=0.011)
    assert of_row("mteb-official", "bge-en-icl", tmp_path).verdict == "no target"
    zero = of_row("bge-icl-mteb", "full-zero-shot", tmp_path)
    assert (zero.verdict, zero.was_run) == ("not run", False)


def test_zero_shot_results_are_not_few_shot_ones(payload, tmp_path):
    row = next(row for row in published.load("bge-icl-mteb").rows if row.id == "full-zero-shot")
    mteb(dict(row.values), payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    assert of_row("bge-icl-mteb", "full-few-shot", tmp_path).verdict == "OFF"


def test_a_category_waits_for_its_last_task(few_shot, payload, tmp_path):
    del few_shot["SciDocsRR"]
    mteb(few_shot, payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    judged = of_row("bge-icl-table1", "full-bge-en-icl-few-shot", tmp_path)
    assert judged.verdict == "partial"
    assert judged.ours["Rerank(4)"] is None
    assert judged.ours["Retr(15)"] is not None
    assert judged.average is None


def test_the_twelve_forums_count_as_one_task(few_shot, payload, tmp_path):
    forums = published.load("bge-icl-mteb").groups["CQADupstackRetrieval"]
    mean = few_shot.pop("CQADupstackRetrieval")
    apart = {forum: mean + (i - 5.5) for i, forum in enumerate(forums)}
    mteb(few_shot | apart, payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    assert len(forums) == 12
    assert of_row("bge-icl-mteb", "full-few-shot", tmp_path).ours["CQADupstackRetrieval"] == pytest.approx(mean)
    assert of_row("bge-icl-table1", "full-bge-en-icl-few-shot", tmp_path).verdict == "OK"


def test_one_result_of_another_protocol_spoils_its_category(few_shot, payload, tmp_path):
    folder = tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot"
    mteb(few_shot, payload, folder, limit=5, n=5)
    judged = of_row("bge-icl-table1", "full-bge-en-icl-few-shot", tmp_path)
    assert judged.verdict == "not compared"
    assert judged.excluded["STS(10)"] == pytest.approx(84.245)
    assert any("limited to 5 items" in note for note in judged.notes)


def test_data_that_differ_are_said_and_never_ok(few_shot, payload, tmp_path):
    folder = mteb(few_shot, payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    data = {"source": "a folder", "sha256": "h", "differs": "raw text"}
    mteb({"STS12": few_shot["STS12"]}, payload, folder, data=data)
    judged = of_row("bge-icl-mteb", "full-few-shot", tmp_path)
    assert judged.verdict == "CLOSE"
    assert any(note == "STS12, so never OK, is of data that differ: raw text" for note in judged.notes)


def test_a_score_on_part_of_the_data_is_not_compared(few_shot, payload, tmp_path):
    folder = mteb(few_shot, payload, tmp_path / "bge-icl-mteb" / "bge-en-icl-few-shot")
    data = {"source": "a folder", "sha256": "h", "complete": False, "differs": "3,395 of 3,633 documents"}
    mteb({"NFCorpus": few_shot["NFCorpus"]}, payload, folder, data=data)
    judged = of_row("bge-icl-mteb", "full-few-shot", tmp_path)
    assert judged.verdict == "not compared"
    assert judged.excluded == {"NFCorpus": few_shot["NFCorpus"]}
    assert judged.ours["NFCorpus"] is None
    assert any("NFCorpus not compared" in note and "3,395 of 3,633 documents" in note for note in judged.notes)


def test_further_scores_of_a_result_and_the_row_in_their_name(payload, tmp_path):
    """InBedder's robustness: every row is of one task, and its columns are scores within that task's result."""
    from benchmarks.results import write_result

    table = published.load("inbedder-robustness")
    row = next(row for row in table.rows if row.id == "llama-2-7b-hf-qa-ml20.first.32.fewrel")
    robust = {column: row.values[column] + 0.01 for column in table.columns}
    facts = {"suite": "inbedder", "protocol": "published", "metric": "v_measure", "score": 60.0, "n": 9}
    folder = tmp_path / "inbedder" / "llama-2-7b-inbedder"
    write_result(folder, payload("FewRelClustering", scores={"robustness": robust}, **facts))
    judged = of_row(table.name, row.id, tmp_path)
    assert judged.verdict == "OK"
    assert judged.differences == dict.fromkeys(table.columns, pytest.approx(0.01, abs=0.0051))
    assert of_row(table.name, "llama-2-7b-hf-qa-ml20.first.32.fewevent", tmp_path).verdict == "not run"


def test_harmonic_means_of_ours_are_taken_from_their_parts(payload, tmp_path):
    from benchmarks.results import write_result

    facts = {"suite": "inbedder", "protocol": "published", "n": 9}
    folder = tmp_path / "inbedder" / "llama-2-7b-inbedder"
    pair = {"emotion": 95.2922, "intent": 84.6916}
    write_result(folder, payload("IntentEmotion", metric="success", score=89.68, scores=pair, **facts))
    for task, score in {"NYTTopicClustering": 60.3685, "NYTLocationClustering": 69.5853}.items():
        write_result(folder, payload(task, metric="v_measure", score=score, **facts))
    write_result(folder, payload("InstructSTSBenchmark", metric="spearman", score=22.0674, **facts))
    judged = of_row("inbedder-awareness", "llama-2-7b-hf-qa-ml40.first.32", tmp_path)
    assert judged.verdict == "OK"
    assert judged.averages["IntentEmotion"] == pytest.approx(89.6797, abs=1e-3)
    assert judged.averages["NYT"] == pytest.approx(64.6501, abs=1e-3)
    assert judged.average == pytest.approx(58.80, abs=0.01)


def test_an_ablation_that_no_task_of_ours_measures_is_quoted(tmp_path):
    assert {j.verdict for j in judge(published.load("bge-icl-table2"), tmp_path)} == {"quoted"}


def test_a_row_alone(payload):
    table = published.load("angle-sts")
    row = replace(table.rows[0], status="third-party")
    assert judge_row(table, row, {}).verdict == "not run"
