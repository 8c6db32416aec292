"""The page of a report: tables and figures in one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmarks import report_made, report_plots
from benchmarks.comparison import AVERAGE, SHORT
from benchmarks.report_inputs import Inputs
from benchmarks.study_tables import COST

HERE = Path(__file__).parent
TIE = 0.005  # scores are shown with two decimals; what is equal there shares its rank


def page(inputs: Inputs, title: str, footer: str = "", about: str = "") -> str:
    """The HTML of a report; texts are escaped, figures are inline SVG.

    Args:
        inputs: what is shown.
        title: of the page; footer: its last line.
        about: what stands above the tables: paragraphs parted by empty lines, heads (`## `) and lists (`- `).
    """
    sections = [_results(document, f"t{number}") for number, document in enumerate(inputs.documents)]
    sections += [_layers(folder, document, f"l{n}") for n, (folder, document) in enumerate(inputs.layers)]
    sections += [_fewshot(inputs)] if inputs.fewshot else []
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / "report.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        footer=footer,
        about=blocks(about),
        sections=sections,
        css=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        js=Markup((HERE / "report.js").read_text(encoding="utf-8")),
    ).lstrip()


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """("h2", [head]), ("ul", items) or ("p", [paragraph]) of each block of a plain text."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.startswith("#"):
            found.append(("h2", [block.lstrip("# ").strip()]))
        elif block.startswith("- "):
            found.append(("ul", [" ".join(item.split()) for item in re.split(r"^- ", block, flags=re.M)[1:]]))
        elif block:
            found.append(("p", [" ".join(block.split())]))
    return found


def cell(value: Any, text: str | None = None, *, small: str = "", about: str = "", rank: str = "") -> dict[str, Any]:
    """A cell: what it is sorted by, what it shows, what stands below and behind it, "best" or "second"."""
    shown = text if text is not None else "-" if value is None else str(value)
    return {"value": value, "text": shown, "small": small, "about": about, "rank": rank}


def ranks(values: list[float | None]) -> list[str]:
    """ "best" and "second" of a column of scores, "" for the others; nothing is best of one."""
    levels: list[float] = []
    for value in sorted((v for v in values if v is not None), reverse=True):
        if not levels or levels[-1] - value > TIE:
            levels.append(value)
    if len(levels) < 2:
        return [""] * len(values)
    names = {0: "best", 1: "second"}
    return [
        "" if v is None else next((names[i] for i, level in enumerate(levels[:2]) if abs(v - level) <= TIE), "")
        for v in values
    ]


def _results(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [_part("Scores", table=_scores(document, name))]
    figure = report_plots.quality_against_cost(document)
    parts += [_part("Quality against cost", svg=_inline(figure, f"{name}-cost"))] if figure else []
    if document["differences"]:
        parts.append(_part(f"Differences to {document['baseline']}, task by task", table=_differences(document, name)))
        figure = report_plots.differences(document)
        parts += [_part("", svg=_inline(figure, f"{name}-differences"))] if figure else []
    parts.append(_part("Cost", table=_cost(document, name)))
    made = [(row["name"], report_made.about_row(document, row)) for row in document["rows"]]
    return {"title": document["title"], "notes": document["notes"], "parts": parts, "made": made}


def _part(title: str, *, table: Any = None, svg: Any = None) -> dict[str, Any]:
    return {"title": title, "table": table, "svg": svg}


def _inline(figure: Any, salt: str) -> Markup:
    return Markup(report_plots.svg(figure, salt))


def _scores(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    tasks, rows = document["tasks"], document["rows"]
    columns = [*tasks, *([AVERAGE] if len(tasks) > 1 else [])]
    by_column = {c: [row[AVERAGE] if c == AVERAGE else row["scores"][c] for row in rows] for c in columns}
    marks = {c: ranks([score and score["mean"] for score in scores]) for c, scores in by_column.items()}
    overall = {d: _difference(document, d, columns[-1]) for d in document["differences"]}
    lines = []
    for number, row in enumerate(rows):
        label = row["name"] + (" (baseline)" if row["name"] == document["baseline"] else "")
        line = [cell(row["name"], label, small=row["about"])]
        for column in columns:
            about = report_made.about_row(document, row) if column == AVERAGE else ""
            score = by_column[column][number]
            if score and column != AVERAGE:
                about = report_made.about_score(document, row, column)
            line.append(_score(score, about, marks[column][number]))
        if document["differences"]:
            line.append(overall.get(row["name"]) or cell(None))
        lines.append(line)
    heads = ["row", *(SHORT.get(c, c) for c in columns), *(["to baseline"] if document["differences"] else [])]
    return {"id": f"{name}-scores", "heads": heads, "rows": lines}


def _score(score: Mapping[str, Any] | None, about: str, rank: str) -> dict[str, Any]:
    if score is None:
        return cell(None)
    spread = f"± {score['spread']:.2f} " if score["spread"] is not None else ""
    interval = "[{:.2f}, {:.2f}]".format(*score["interval"]) if score["interval"] else ""
    return cell(score["mean"], f"{score['mean']:.2f}", small=f"{spread}{interval}", about=about, rank=rank)


def _difference(document: Mapping[str, Any], name: str, task: str) -> dict[str, Any]:
    found = next((d for d in document["differences"].get(name, ()) if d["task"] == task), None)
    if found is None:
        return cell(None)
    holm = "" if found["p_holm"] is None else f", Holm over the tasks {found['p_holm']:.4f}"
    about = (
        f"{name} less {document['baseline']}, {task}: {found['difference']:+.4f}\n95% interval "
        f"[{found['low']:+.2f}, {found['high']:+.2f}], p {found['p']:.4f}{holm}\npaired bootstrap, "
        f"{document['samples']} resamples"
    )
    if document.get("command"):
        about += f"\nstudy: {document['command']}"
    text = f"{found['difference']:+.2f}{found['mark']}"
    return cell(found["difference"], text, small=f"[{found['low']:+.2f}, {found['high']:+.2f}]", about=about)


def _differences(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    columns = [*document["tasks"], *([AVERAGE] if len(document["tasks"]) > 1 else [])]
    lines = [[cell(row), *(_difference(document, row, c) for c in columns)] for row in document["differences"]]
    return {"id": f"{name}-differences", "heads": ["row", *(SHORT.get(c, c) for c in columns)], "rows": lines}


def _cost(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    lines = []
    for row in document["rows"]:
        about = report_made.about_row(document, row)
        line = [cell(row["name"])]
        for key, (_, places) in COST.items():
            value = row["cost"].get(key)
            line.append(cell(value, None if value is None else f"{value:,.{places}f}", about=about if value else ""))
        lines.append(line)
    return {"id": f"{name}-costs", "heads": ["row", *(head for head, _ in COST.values())], "rows": lines}


def _layers(folder: Path, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    from benchmarks import layer_plot
    from benchmarks.layer_curves import Report

    everywhere = set.intersection(*(set(run["tasks"]) for run in document["runs"]))
    tasks = [task for task in document["tasks"] if task in everywhere]
    firsts = [run["bidirectional_from"] for run in document["runs"]] if len(document["runs"]) > 1 else []
    report = Report.of(document, tasks, firsts)
    figures = [layer_plot.plot_layers(report), *([layer_plot.plot_k(report)] if firsts else [])]
    parts = [_part("", svg=_inline(figure, f"{name}-{i}")) for i, figure in enumerate(figures)]
    lines = report_made.encoder_lines(document["encoder"])
    for session in document["sessions"]:
        lines += [f"scored by: {session['command']}", f"with: {report_made.versions(session['environment'])}"]
    title = f"Layer curve: {document['method']} with {document['model']}"
    return {"title": title, "notes": [], "parts": parts, "made": [(folder.name, "\n".join(dict.fromkeys(lines)))]}


def _fewshot(inputs: Inputs) -> dict[str, Any]:
    documents = [document for _, document in inputs.fewshot]
    lines, made = [], []
    for folder, document in inputs.fewshot:
        label = document.get("label", folder.name)
        text = "\n".join(
            dict.fromkeys(
                line
                for session in document["sessions"]
                for line in (
                    f"scored by: {session['command']}",
                    f"with: {report_made.versions(session['environment'])}",
                )
            )
        )
        text = "\n".join([*report_made.encoder_lines(document["encoder"]), text])
        made.append((label, text))
        for one in document["cells"]:
            score = 100 * one["scores"]["ndcg@10"]
            facts = [cell(one["set"]), cell(one["shots"]), cell(one["seed"])]
            seconds = one["seconds_per_1000"]
            lines.append(
                [cell(label), *facts, cell(score, f"{score:.2f}", about=text), cell(seconds, f"{seconds:.1f}")]
            )
    heads = ["model", "set", "examples", "seed", "nDCG@10", "s per 1,000 queries"]
    table = {"id": "fewshot", "heads": heads, "rows": lines}
    parts = [_part("", svg=_inline(report_plots.fewshot(documents), "fewshot")), _part("", table=table)]
    return {"title": "Few-shot curves", "notes": ["The mean over the draws of examples."], "parts": parts, "made": made}
