"""The report: everything in one file, numbers as in the results, columns that sort, something behind each number."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import after_script

from benchmarks import report, report_page
from benchmarks.comparison import compare
from benchmarks.report import ReportConfig
from benchmarks.report_inputs import read_inputs
from benchmarks.results import write_result
from common.errors import InputError

TASKS = ("STS12", "STSBenchmark", "SICK-R")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, pair_folder: Callable[..., Path]) -> list[Path]:
    """Three systems on three tasks of 60 pairs; each is worse than the one before it, whose name comes later."""
    root, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    gold = rng.random(60)
    made = []
    for noise, name in ((0.1, "zebra"), (0.5, "<moth> & co"), (2.0, "ant")):
        predictions = {task: gold + noise * rng.random(60) for task in TASKS}
        encoder = {"pooling": "mean", "adapter": None, "template": f'Say "{{text}}" for {name}:', "fingerprint": name}
        made.append(pair_folder(root / name, predictions, gold, command=f"run {name}", encoder=encoder))
    return made


@pytest.fixture(scope="module")
def page(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report") / "report.html"
    assert report.run(ReportConfig(folders, output=output, baseline=folders[2], samples=200)) == 0
    return output


class Cells(HTMLParser):
    """The cells of one table, row by row: (attributes, text)."""

    def __init__(self, table: str, html: str) -> None:
        super().__init__()
        self.table, self.inside, self.rows = table, False, []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inside = found.get("id") == self.table if tag == "table" else self.inside
        if self.inside and tag == "tr":
            self.rows.append([])
        if self.inside and tag == "td":
            self.rows[-1].append((found, ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "table"

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows and self.rows[-1]:
            attrs, text = self.rows[-1][-1]
            self.rows[-1][-1] = (attrs, text + data)


def rows_of(html: str, table: str = "t0-scores") -> list[list[tuple[dict[str, Any], str]]]:
    return [row for row in Cells(table, html).rows if row]


def test_the_page_needs_nothing_else(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*|@import|url\((?!#)""", html)
    assert html.count("<svg") == 2
    assert html.startswith("<!DOCTYPE html>")


def test_numbers_are_those_of_the_results(page: Path, folders: list[Path]) -> None:
    rows = {row[0][0]["data-value"]: row for row in rows_of(page.read_text(encoding="utf-8"))}
    assert set(rows) == {"ant", "zebra", "<moth> & co"}
    for folder in folders:
        for column, task in enumerate(TASKS, 1):
            score = json.loads((folder / f"{task}.json").read_text())["score"]
            attributes, text = rows[folder.name][column]
            assert float(attributes["data-value"]) == pytest.approx(score, abs=1e-9)
            assert text.startswith(f"{score:.2f}")
            low, high = map(float, re.search(r"\[(.*), (.*)\]", text).groups())  # type: ignore[union-attr]
            assert low < score < high


def test_best_and_second_are_marked(page: Path) -> None:
    for row in rows_of(page.read_text(encoding="utf-8")):
        expected = {"zebra": "best", "<moth> & co": "second", "ant": None}[row[0][0]["data-value"]]
        assert {cell.get("class") for cell, _ in row[1:4]} == {expected}
    assert report_page.ranks([50.0, None, 50.004, 49.0, 48.0]) == ["best", "", "best", "second", ""]
    assert report_page.ranks([50.0, None]) == ["", ""]


def test_behind_every_number_stands_what_made_it(page: Path) -> None:
    for row in rows_of(page.read_text(encoding="utf-8")):
        name = row[0][0]["data-value"]
        for cell, _ in row[1:5]:
            assert f"scored by: run {name}" in cell["data-about"]
            assert f'Say "{{text}}" for {name}:' in cell["data-about"]
            assert "torch" in cell["data-about"] or "libraries" in cell["data-about"]


def test_tables_beside_the_page(page: Path, folders: list[Path]) -> None:
    with page.with_suffix(".csv").open(encoding="utf-8") as handle:
        records = list(csv.DictReader(handle))
    assert len(records) == 3 * (len(TASKS) + 1)
    one = next(r for r in records if (r["row"], r["task"]) == ("zebra", "STS12"))
    assert float(one["mean"]) == json.loads((folders[0] / "STS12.json").read_text())["score"]
    assert float(one["difference_low"]) <= float(one["difference"]) <= float(one["difference_high"])
    assert f"{float(one['mean']):.2f}" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert "\\begin{tabular}" in page.with_suffix(".tex").read_text(encoding="utf-8")


def test_what_it_shows_stands_on_top(tmp_path: Path, folders: list[Path]) -> None:
    about = tmp_path / "about.txt"
    about.write_text("## What it shows\n\nA <b> line\nand more.\n\n- one\n  thing\n- two\n\n", encoding="utf-8")
    report.run(ReportConfig(folders, output=tmp_path / "r.html", about=about))
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    above = html[: html.index("<section>")]
    assert "<h2>What it shows</h2>" in above
    assert "<p>A &lt;b&gt; line and more.</p>" in above
    assert "<ul><li>one thing</li><li>two</li></ul>" in above
    assert (tmp_path / "r.md").read_text(encoding="utf-8").startswith("## What it shows\n\nA <b> line")
    about.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"about\.txt:2: "):
        report.run(ReportConfig(folders, output=tmp_path / "other.html", about=about))
    assert not (tmp_path / "other.html").exists()
    with pytest.raises(InputError, match=r"--about .*nothing\.txt: no such file"):
        ReportConfig(folders, output=tmp_path / "r.html", about=tmp_path / "nothing.txt")


def test_wrong_use_is_refused(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(InputError, match="at least one result folder"):
        ReportConfig([])
    with pytest.raises(InputError, match=r"must end in \.html"):
        ReportConfig(folders, output=tmp_path / "report.pdf")
    with pytest.raises(InputError, match="no such file or folder"):
        report.run(ReportConfig([tmp_path / "nothing"], output=tmp_path / "r.html"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no result"):
        report.run(ReportConfig([tmp_path / "empty"], output=tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()


def test_tasks_of_several_metrics(tmp_path: Path, score_folder: Any, payload: Any) -> None:
    folders = []
    for name, score in (("a", 70.0), ("b", 80.0)):
        folder = score_folder(tmp_path / name, {"STS12": score}, suite="mteb", protocol="mteb")
        facts = {"suite": "mteb", "protocol": "mteb", "metric": "ndcg_at_10", "score": score - 20}
        write_result(folder, payload("SciFact", **facts))
        folders.append(folder)
    (document,) = read_inputs(folders).documents
    assert document["metric"] == "main metric of each task"
    assert document["notes"][0].startswith("Main metric of each task x 100.")
    assert [row["average"]["mean"] for row in document["rows"]] == [60.0, 70.0]
    assert "main metric of each task x 100" in compare(folders).title
    write_result(folders[1], payload("STS12", suite="mteb", protocol="mteb", metric="pearson"))
    with pytest.raises(InputError, match="can't stand in one table: metric spearman and pearson"):
        read_inputs(folders)


def test_layer_and_fewshot_curves(llama_folder: Path, tmp_path: Path) -> None:
    from benchmarks import layers

    model, folder = str(llama_folder), tmp_path / "all" / "layers"
    document, _ = layers.evaluate(
        layers.LayersConfig(
            method="angle", model=model, suite="sts-shipped", limit=20, output=folder, bidirectional_from=["0"]
        )
    )
    cells = [
        {"set": "scifact", "shots": shots, "seed": 0, "scores": {"ndcg@10": score}, "seconds_per_1000": 9.0}
        for shots, score in ((0, 0.25), (3, 0.625))
    ]
    made = {key: document[key] for key in ("encoder", "sessions")}
    fewshot = {"schema": 1, "kind": "fewshot", "label": "tiny", "cells": cells, **made}
    (tmp_path / "all" / "few").mkdir()
    (tmp_path / "all" / "few" / "study.json").write_text(json.dumps(fewshot), encoding="utf-8")
    output = tmp_path / "report.html"
    assert report.run(ReportConfig([tmp_path / "all"], output=output)) == 0
    html = output.read_text(encoding="utf-8")
    assert html.count("<svg") == 3
    assert "layer (0: token embeddings)" in html
    assert [row[4][0]["data-value"] for row in rows_of(html, "fewshot")] == ["25.0", "62.5"]
    assert "Summarize sentence" in rows_of(html, "fewshot")[0][4][0]["data-about"]


def test_a_column_head_sorts(page: Path, tmp_path: Path) -> None:
    head = "document.querySelectorAll('#t0-scores thead button')"
    found = {}
    for clicks in (0, 1, 2):
        html = after_script(page, f"for (let i = 0; i < {clicks}; i++) {head}[1].click();", tmp_path)
        found[clicks] = [row[0][0]["data-value"] for row in rows_of(html)]
    assert found[1] == ["zebra", "<moth> & co", "ant"]
    assert found[2] == found[1][::-1]
    assert found[0] == ["ant", "zebra", "<moth> & co"]  # the baseline first, then as given
    html = after_script(page, f"{head}[0].click(); document.querySelectorAll('td[data-about]')[0].click();", tmp_path)
    assert [row[0][0]["data-value"] for row in rows_of(html)] == ["<moth> & co", "ant", "zebra"]
    panel = html[html.index('<aside id="about"') :]
    assert 'hidden=""' not in panel[: panel.index(">")]
    assert "scored by: run &lt;moth&gt; &amp; co" in panel


def test_the_order_of_a_column() -> None:
    """The sorting itself, in node where there is one: numbers as numbers, missing ones last both ways."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = Path(report.__file__).with_name("report.js")
    values = '["9.5", "", "10", "-3", "10"]'
    code = f"const {{order}} = require({json.dumps(str(script))}); const v = {values};"
    code += 'console.log(JSON.stringify([order(v, true), order(v, false), order(["b", "", "A"], false)]))'
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [[2, 4, 0, 3, 1], [3, 0, 2, 4, 1], [2, 0, 1]]
