"""The tasks are the published ones, letter by letter, and ours are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import InputError
from inbedder.evaluation.tasks import GROUPS, RUN_HERE, SYNGOALEX, all_tasks, find_tasks


def test_every_published_instruction_is_here(shared: Path) -> None:
    published = json.loads((shared / "published" / "inbedder_tasks_and_instructions.json").read_text("utf-8"))["tasks"]
    ours = all_tasks()
    assert {name for name, task in ours.items() if not task.ours} == set(published)
    for name, entry in published.items():
        task = ours[name]
        asked = entry.get("instruction", [])
        assert list(task.instruction) == ([asked] if isinstance(asked, str) else asked)
        for mine, theirs in ((task.right, "correct"), (task.implicit, "implicit"), (task.wrong, "incorrect")):
            assert list(mine) == entry.get(f"{theirs}_instructions", [])
        assert task.hub == entry.get("hf_hub_name")
        assert task.revision == entry.get("revision")


def test_the_tasks_of_robustness_have_ten_of_each_kind() -> None:
    for name in (*GROUPS["robustness"], "TwentyNewsgroupsClustering"):
        task = all_tasks()[name]
        assert [len(task.of_kind(kind)) for kind in ("right", "implicit", "wrong")] == [10, 10, 10], name


def test_our_wrong_instructions_are_the_right_ones_of_the_other_aspects() -> None:
    tasks = find_tasks(["SynGoalEx"])
    assert tuple(task.name for task in tasks) == SYNGOALEX
    for task in tasks:
        others = [one for other in tasks if other is not task for one in other.right]
        assert sorted(task.wrong) == sorted(others)
        assert task.instruction[0] == task.right[0]
        # The first few hold some of both others, so that --per_kind keeps a fair choice.
        assert all(set(task.wrong[:2]) & set(other.right) for other in tasks if other is not task)
    everything = [one for task in tasks for one in (*task.right, *task.implicit)]
    assert len(set(everything)) == len(everything) == 24


def test_names_may_be_shortened_and_groups_given() -> None:
    assert [t.name for t in find_tasks(["FewRel", "Feedbacks", "AskUbuntu"])] == [
        "FewRelClustering",
        "FeedbacksClustering",
        "AskUbuntuDupQuestions",
    ]
    assert len(find_tasks(["released"])) == 13
    assert len(find_tasks(["NYT", "NYTTopic"])) == 2, "a task that is named twice is one"


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--tasks FewRle.*did you mean FewRel"):
        find_tasks(["FewRle"])


def test_instructions_are_asked_once_each() -> None:
    (task,) = find_tasks(["SynGoalExTopic"])
    assert task.instructions(False) == [task.instruction[0]]
    assert len(task.instructions(True)) == 4 + 4 + 8
    fewer = task.first_of_each_kind(2)
    assert fewer.instructions(True) == [*task.right[:2], *task.implicit[:2], *task.wrong[:2]]
    assert task.first_of_each_kind(None) == task


def test_every_kind_is_known() -> None:
    elsewhere = {"retrieval", "pair-classification", "classification"}
    assert {task.kind for task in all_tasks().values()} == {*RUN_HERE, *elsewhere}
