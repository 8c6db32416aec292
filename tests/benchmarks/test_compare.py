from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import compare as module
from benchmarks.compare import compare, format_comparison
from benchmarks.results import write_result
from common.errors import InputError

ALL = {
    "STS12": "STS12",
    "STS13": "STS13",
    "STS14": "STS14",
    "STS15": "STS15",
    "STS16": "STS16",
    "STSBenchmark": "STSB",
    "SICK-R": "SICKR",
}


@pytest.fixture
def full(scores):
    """Predictions for all seven tasks: column after column of the published scores."""
    return {task: scores[column] for task, column in ALL.items()}


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_per_folder_with_average_cost_and_protocol(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", full, scores["Avg"], seconds=2.0, tokens=3000, peak_memory_mb=100.0)
    b = pair_folder(tmp_path / "b", {"STS12": full["STS12"]}, scores["Avg"], model="smollm2-135m")
    found = compare([a, b])
    text = format_comparison(found)
    assert text.startswith("Suite sts, protocol senteval: spearman x 100")
    expected = [100 * spearmanr(full[task], scores["Avg"]).statistic for task in ALL]
    assert found.entries[0].average(found.tasks) == pytest.approx(np.mean(expected))
    row = cells(text, "a")
    assert row[:2] == ["a", "minilm"]
    assert row[2:9] == [f"{score:.2f}" for score in expected]
    assert row[9:] == [f"{np.mean(expected):.2f}", "14.0", "1500", "100"]
    row = cells(text, "b")
    assert row[3:10] == ["-"] * 7  # six tasks and so the average
    assert "All: method sentence-transformer." in text  # said once, not in every row


def test_shipped_data_says_what_it_is_not(tmp_path, scores, pair_folder):
    folder = pair_folder(
        tmp_path / "a", {"Shipped": scores["STS12"]}, scores["Avg"], suite="sts-shipped", protocol="shipped"
    )
    for style in ("text", "markdown", "latex", "csv", "json"):
        text = format_comparison(compare([folder]), style)
        assert "own small set; not comparable with published benchmarks" in text, style
    assert cells(format_comparison(compare([folder])), "a")[4] != "-"  # the only task of its suite: has an average


@pytest.mark.parametrize("changes", [{"protocol": "mteb"}, {"suite": "sts-mteb"}, {"metric": "pearson"}])
def test_other_protocols_suites_and_metrics_are_refused_by_folder(tmp_path, score_folder, changes):
    a = score_folder(tmp_path / "a", {"STS12": 70.0})
    b = score_folder(tmp_path / "b", {"STS12": 71.0}, **changes)
    with pytest.raises(InputError, match=f"{a} and {b} can't stand in one table"):
        compare([a, b])


def test_a_mixed_folder_is_refused_by_file(tmp_path, score_folder):
    a = score_folder(tmp_path / "a", {"STS12": 70.0})
    score_folder(a, {"STS13": 70.0}, protocol="mteb")
    with pytest.raises(InputError, match=r"STS12\.json and .*STS13\.json"):
        compare([a])


def test_missing_empty_and_broken_folders_are_named(tmp_path, score_folder):
    with pytest.raises(InputError, match="nowhere: no such result folder"):
        compare([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no result in this folder"):
        compare([tmp_path / "empty"])
    half = score_folder(tmp_path / "half", {"STS12": 70.0}) / "STS12.json"
    half.write_text(half.read_text()[:100])
    with pytest.raises(InputError, match=r"half/STS12\.json"):
        compare([tmp_path / "half"])


def test_limits_other_pairs_other_data_and_switches_are_marked(tmp_path, score_folder):
    a = score_folder(tmp_path / "a", {"STS12": 70.0, "STS13": 70.0})
    ids = {"limit": 2, "n": 2, "index": [4, 8]}
    b = score_folder(tmp_path / "b", {"STS12": 71.0}, **ids, compat=["angle:senteval-blanks"])
    score_folder(b, {"STS13": 72.0}, data={"source": "s", "sha256": "another"}, compat=["angle:senteval-blanks"])
    text = format_comparison(compare([a, b]))
    assert "71.00*#" in text
    assert "72.00#" in text
    assert "* b: only 2 items of STS12." in text
    assert "# b: other items than a on STS12." in text
    assert "# b: other data than a on STS13." in text
    assert "b: made with --compat angle:senteval-blanks." in text
    same = score_folder(tmp_path / "c", {"STS12": 73.0}, **ids)
    assert "#" not in format_comparison(compare([b, same]))


def test_identity_differs_by_nothing(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", full, scores["Avg"])
    copy = shutil.copytree(a, tmp_path / "copy")
    for found in (compare([copy], baseline=a), compare([a], baseline=a)):
        (family,) = found.differences.values()
        assert [d.task for d in family] == [*ALL, "average"]
        for d in family:
            assert (d.interval.low, d.interval.high, d.interval.difference, d.interval.p) == (0, 0, 0, 1)
            assert d.mark == ""


def test_differences_with_intervals_and_holm(tmp_path, scores, full, pair_folder):
    gold = scores["Avg"]
    noisy = np.random.default_rng(0).permutation(scores["STS13"])
    a = pair_folder(tmp_path / "a", {"STS12": noisy, "STS13": full["STS13"]}, gold)
    b = pair_folder(tmp_path / "b", {"STS12": full["STS12"], "STS13": full["STS13"], "STS14": gold}, gold)
    found = compare([b], baseline=a)
    assert [entry.label for entry in found.entries] == ["a", "b"]
    better, same = found.differences["b"]  # STS14 is not in the baseline
    assert better.interval.difference == pytest.approx(
        found.entries[1].results["STS12"].score - found.entries[0].results["STS12"].score
    )
    assert better.interval.low > 0
    assert better.mark == "**"
    assert better.p_holm == pytest.approx(2 * better.interval.p)
    assert same.mark == ""
    text = format_comparison(found)
    assert "a (baseline)" in text
    assert "Difference to a" in text
    assert "b on STS14, STS15, STS16, STSBenchmark, SICK-R: no difference" in text
    assert compare([b], baseline=a).differences == found.differences  # the seed decides


def test_an_interval_without_holm_gets_one_star(tmp_path, scores, full, pair_folder):
    gold = scores["Avg"]
    a = pair_folder(tmp_path / "a", full, gold)
    found = compare([pair_folder(tmp_path / "b", dict.fromkeys(ALL, scores["STS14"]), gold)], baseline=a)
    for d in found.differences["b"]:
        sure = d.p_holm is not None and d.p_holm < 0.05
        assert d.mark == ("" if not d.interval.excludes_zero else "**" if sure else "*")
    marks = {d.mark for d in found.differences["b"] if d.task != "average"}
    assert marks == {"", "*"}  # real differences, but too few pairs to survive the correction


def test_other_pairs_get_no_difference(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", full, scores["Avg"])
    b = pair_folder(tmp_path / "b", full, scores["Avg"])
    facts = json.loads((b / "STS12.json").read_text())
    (b / "STS12.json").write_text(json.dumps(facts | {"data": {"sha256": "another"}}))
    tasks = [d.task for d in compare([b], baseline=a).differences["b"]]
    assert "STS12" not in tasks
    assert "average" not in tasks
    assert len(tasks) == 6


def test_a_collapsed_encoder_is_compared_not_refused(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", {"STS12": full["STS12"]}, scores["Avg"])
    flat = {"STS12": np.full_like(scores["Avg"], 0.5)}
    b = pair_folder(tmp_path / "b", flat, scores["Avg"], score=0.0, scores={})
    (found,) = compare([b], baseline=a).differences["b"]
    assert found.score == 0.0
    assert found.interval.high < 0


def test_a_baseline_without_shared_tasks_is_refused(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", {"STS12": full["STS12"]}, scores["Avg"])
    b = pair_folder(tmp_path / "b", {"STS13": full["STS13"]}, scores["Avg"])
    with pytest.raises(InputError, match="shares no task"):
        compare([b], baseline=a)


def test_missing_predictions_matter_only_with_a_baseline(tmp_path, score_folder):
    a, b = (score_folder(tmp_path / name, {"STS12": 70.0}) for name in "ab")
    compare([a, b])
    with pytest.raises(InputError, match=r"STS12\.npz: missing"):
        compare([b], baseline=a)


def test_equal_names_get_the_path_that_tells_them_apart(tmp_path, score_folder):
    folders = [score_folder(tmp_path / parent / "minilm", {"STS12": 70.0}) for parent in ("old", "new")]
    assert [entry.label for entry in compare(folders).entries] == ["old/minilm", "new/minilm"]
    assert len(compare([folders[0], folders[0]]).entries) == 1


def test_programs_get_full_precision(tmp_path, scores, full, pair_folder):
    a = pair_folder(tmp_path / "a", full, scores["Avg"])
    b = pair_folder(tmp_path / "b", dict.fromkeys(ALL, scores["STS14"]), scores["Avg"], model="other")
    found = compare([b], baseline=a)
    rows = list(csv.DictReader(io.StringIO(format_comparison(found, "csv"))))
    assert [row["result"] for row in rows] == ["a", "b"]
    assert float(rows[0]["STS12"]) == pytest.approx(100 * spearmanr(full["STS12"], scores["Avg"]).statistic, abs=1e-9)
    assert float(rows[1]["STS12 low"]) <= float(rows[1]["STS12 difference"]) <= float(rows[1]["STS12 high"])
    assert rows[0]["STS12 difference"] == ""
    document = json.loads(format_comparison(found, "json"))
    assert document["rows"][1]["differences"]["average"]["difference"] == pytest.approx(
        document["rows"][1]["average"] - document["rows"][0]["average"]
    )


def test_the_command(tmp_path, scores, full, pair_folder, capsys):
    a = pair_folder(tmp_path / "a", full, scores["Avg"])
    b = pair_folder(tmp_path / "b", full, scores["Avg"], model="other")

    def call(*argv: str | Path) -> int:
        with pytest.raises(SystemExit) as done:
            module.main([str(word) for word in argv])
        return int(done.value.code or 0)

    assert call(a, b) == 0
    text = capsys.readouterr().out
    assert "| a " in text
    assert max(len(line) for line in text.splitlines()) <= 160
    assert call(a, b, "--baseline", a, "--output", tmp_path / "out.md") == 0
    assert (tmp_path / "out.md").read_text().startswith("**Suite sts")
    assert call(a, "--output", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().startswith("result,folder")
    assert call() == 2
    assert call(a, "--output", tmp_path / "out.html") == 2
    assert "no format for '.html'" in capsys.readouterr().err
    assert call(tmp_path / "nowhere") == 2


def transfer_folder(folder: Path, right: float, payload: Callable[..., dict[str, Any]], seed: int = 0) -> Path:
    """Classes of 400 texts on two of SentEval's transfer tasks, a share of them right."""
    rng = np.random.default_rng(seed)
    gold = np.random.default_rng(9).integers(0, 6, 400)
    for task in ("TREC", "MRPC"):
        prediction = np.where(rng.random(400) < right, gold, (gold + 1) % 6)
        facts = {"suite": "transfer", "metric": "accuracy", "n": 400, "score": 100 * np.mean(prediction == gold)}
        write_result(folder, payload(task, **facts), {"prediction": prediction, "gold": gold})
    return folder


def test_accuracies_are_compared_as_accuracies(tmp_path, payload):
    a, b = transfer_folder(tmp_path / "a", 0.5, payload), transfer_folder(tmp_path / "b", 0.8, payload, seed=1)
    found = compare([b], baseline=a)
    assert found.tasks == ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")  # not those of STS
    for entry in found.entries:
        assert entry.average(found.tasks) is None
    assert [d.task for d in found.differences["b"]] == ["TREC", "MRPC"]
    for d in found.differences["b"]:
        assert d.baseline == found.entries[0].results[d.task].score
        assert d.score == found.entries[1].results[d.task].score
        assert d.interval.low < d.score - d.baseline < d.interval.high
        assert d.interval.high - d.interval.low == pytest.approx(4 * 100 * np.sqrt(0.41 / 400), rel=0.25)
        assert d.mark == "**"
    assert "accuracy x 100" in format_comparison(found)
    facts = json.loads((b / "TREC.json").read_text())
    (b / "TREC.json").write_text(json.dumps(facts | {"score": 99.0}))
    with pytest.raises(InputError, match=r"its arrays give accuracy \d\d\.\d\d, but TREC\.json says 99\.00"):
        compare([b], baseline=a)


def test_tasks_without_a_number_per_item_have_no_difference_but_stop_nothing(tmp_path, scores, payload, pair_folder):
    folders = []
    for name, prediction in (("a", scores["STS12"]), ("b", scores["STSB"])):
        mteb = {"suite": "mteb", "protocol": "mteb"}
        pair_folder(tmp_path / name, {"STS12": prediction}, scores["Avg"], **mteb, metric="cosine_spearman")
        for task, metric in {"SciFact": "ndcg_at_10", "Banking77Classification": "accuracy"}.items():
            write_result(tmp_path / name, payload(task, **mteb, metric=metric))
        folders.append(tmp_path / name)
    found = compare([folders[1]], baseline=folders[0])
    assert found.tasks == ("Banking77Classification", "STS12", "SciFact")  # what is there, nothing else
    assert found.entries[0].average(found.tasks) is not None
    assert [d.task for d in found.differences["b"]] == ["STS12"]
    text = format_comparison(found)
    assert "b on Banking77Classification, SciFact: no difference, as predictions are missing" in text


@pytest.mark.shared
def test_word_overlap_on_real_data_gives_the_known_floor(tmp_path, shared_data, payload):
    """Jaccard overlap has a known Spearman per task (.491 on STS12, .565 on STSBenchmark)."""
    senteval = pytest.importorskip("senteval")
    for task, floor in {"STS12": 49.1, "STSBenchmark": 56.5}.items():
        data = senteval.load_task(task, "senteval", shared_data)
        words = [[set(re.findall(r"\w+", text.lower())) for text in side] for side in (data.text1, data.text2)]
        overlap = np.array([len(a & b) / max(len(a | b), 1) for a, b in zip(*words)])
        score = 100 * spearmanr(overlap, data.gold).statistic
        assert score == pytest.approx(floor, abs=0.1)
        facts = payload(task, score=score, n=len(overlap), data={"source": data.source, "sha256": data.fingerprint})
        write_result(tmp_path / "overlap", facts, {"prediction": overlap, "gold": data.gold})
    found = compare([tmp_path / "overlap"], baseline=tmp_path / "overlap")
    assert [d.baseline for d in found.differences["overlap"]] == pytest.approx([49.1, 56.5], abs=0.1)
