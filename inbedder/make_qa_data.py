"""Make InBedder's training rows: questions about a text with a short answer, out of local data sets."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.environment import command_line
from common.errors import InputError
from common.flags import flag
from common.io import atomic_file, sha256_file, write_json
from common.mining.triplets import check_output
from common.reading import read_rows
from inbedder.qa_sets import DataFile, Dropped, QaRow, Rule, Table, content_words, derived_source, load_table, words

if TYPE_CHECKING:
    from inbedder.qa_leakage import EvaluationTexts


@dataclass(kw_only=True)
class QaDataConfig:
    """Sets in, limits, file out."""

    data_dir: Path = field(metadata={"help": "the folder with the sets, a folder each", "group": "data"})
    output: Path = field(metadata={"help": "the rows, .jsonl or .jsonl.gz; a report goes beside", "group": "data"})
    sets: list[str] | None = flag(None, "folders of sets to use; default: all of qa_sets.yaml", "data")
    limit: int | None = flag(None, "so many rows at most, drawn by the seed", "data")
    seed: int = flag(42, "of the order, and of what is drawn where there is too much", "data")
    max_words: int = flag(160, "words of a text at most", "limits")
    max_answer_words: int = flag(6, "content words of an answer at most", "limits")
    same_answer: int = flag(2, "questions with one answer about one text at most (wordings of one question)", "limits")
    closed_book_share: float = flag(0.1, "share of questions without a text at most, 0 to 1", "limits")
    derived: bool = flag(True, "ask also what the data did not ask: what a text is about, which kind it is", "data")
    dry_run: bool = field(default=False, metadata={"help": "print the settings only", "group": "data", "recipe": False})

    def __post_init__(self) -> None:
        for name in ("max_words", "max_answer_words", "same_answer"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit {self.limit}: must be at least 1")
        if not 0 <= self.closed_book_share <= 1:
            raise InputError(f"--closed_book_share {self.closed_book_share}: a share from 0 to 1 is due")
        if not self.data_dir.is_dir():
            raise InputError(f"--data_dir {self.data_dir}: no such folder")
        known = load_table().set_names
        for name in self.sets or []:
            if name not in known:
                raise InputError(f"--sets {name}: there are {', '.join(known)}")


@dataclass
class Counts:
    """What became of the rows of one source; `dropped` counts questions, of which a row may hold several."""

    source: str
    read: int = 0
    skip: str | None = None
    kept: list[QaRow] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def derived(self) -> bool:
        """Whether these are questions that the data did not ask."""
        return ":" in self.source

    def means(self) -> tuple[float, float]:
        """Mean words of the texts (of rows that have one) and of the answers that were kept."""
        texts = [len(words(row.input)) for row in self.kept if row.input]
        answers = [len(words(row.output)) for row in self.kept]
        return sum(texts) / max(len(texts), 1), sum(answers) / max(len(answers), 1)

    def report(self) -> dict[str, Any]:
        """As the report file holds it."""
        text_words, answer_words = self.means()
        return {
            "source": self.source,
            "read": self.read,
            "kept": len(self.kept),
            "dropped": dict(sorted(self.dropped.items())),
            "skipped": self.skip,
            "mean_words_of_text": round(text_words, 1),
            "mean_words_of_answer": round(answer_words, 1),
        }


@dataclass(frozen=True)
class _Candidate:
    row: QaRow
    rule: Rule
    counts: Counts


def make_rows(config: QaDataConfig, table: Table | None = None) -> tuple[list[QaRow], list[Counts]]:
    """The rows in their final order, and what became of each template's rows.

    Raises:
        InputError: a set is missing, a template is not in the table, or nothing is left.
    """
    from inbedder.qa_leakage import EvaluationTexts

    table = table or load_table()
    files = [file for file in table.files if config.sets is None or file.set_name in config.sets]
    for file in files:
        if not (config.data_dir / file.path).exists():
            raise InputError(f"{config.data_dir / file.path}: no such file; mend --data_dir, or leave it out by --sets")
    evaluation = EvaluationTexts(config.data_dir)
    all_counts: list[Counts] = []
    candidates: list[_Candidate] = []
    for file in files:
        candidates += _read(file, config, table, evaluation, all_counts)
    draw = random.Random(config.seed)
    draw.shuffle(candidates)
    rows = _limited(_different(candidates, config.same_answer), config)
    if not rows:
        raise InputError(f"{config.data_dir}: no row is left; raise --max_words or --max_answer_words")
    for candidate in rows:
        candidate.counts.kept.append(candidate.row)
    return [candidate.row for candidate in rows], all_counts


def _read(
    file: DataFile, config: QaDataConfig, table: Table, evaluation: EvaluationTexts, all_counts: list[Counts]
) -> list[_Candidate]:
    """The usable questions of one file; `all_counts` gets its templates."""
    found: dict[str, Counts] = {}
    candidates = []
    for _, raw in read_rows(config.data_dir / file.path):
        values = file.values(raw)
        name = values.get("template", "questions")
        template, source = file.template(name), f"{file.set_name}/{name}"
        for asked in dict.fromkeys(rule.derived for rule in template.rules or (Rule(),)):
            if asked is None or config.derived:
                key = derived_source(source, asked)
                found.setdefault(key, Counts(key, skip=template.skip)).read += 1
        for rule in template.rules:
            counts = found.get(derived_source(source, rule.derived))
            if counts is None:
                continue
            for row in rule.rows(values, source, config.max_words):
                reason = row.reason if isinstance(row, Dropped) else _unfit(row, config, table, evaluation)
                if reason:
                    counts.dropped[reason] += 1
                elif isinstance(row, QaRow):
                    candidates.append(_Candidate(row, rule, counts))
    all_counts.extend(found[name] for name in sorted(found))
    return candidates


def _unfit(row: QaRow, config: QaDataConfig, table: Table, evaluation: EvaluationTexts) -> str | None:
    """Why a row can't be used."""
    content = content_words(row.output)
    if not content:
        return "empty answer"
    if table.unanswerable.fullmatch(row.output):
        return "unanswerable"
    if len(content) > config.max_answer_words:
        return "long answer"
    place = evaluation.overlap(row.input)
    return f"in {place}" if place else None


def _different(candidates: Iterable[_Candidate], same_answer: int) -> list[_Candidate]:
    """Without questions that stand there already, and with at most so many of one answer about one text."""
    asked: set[tuple[str, str]] = set()
    answers: Counter[tuple[str, str]] = Counter()
    kept = []
    for candidate in candidates:
        row = candidate.row
        text = " ".join(words(row.input))
        question, answer = (text, " ".join(words(row.instruction))), (text, " ".join(words(row.output)))
        if question in asked:
            candidate.counts.dropped["asked twice"] += 1
        elif text and answers[answer] >= same_answer:
            candidate.counts.dropped["same answer"] += 1
        else:
            asked.add(question)
            answers[answer] += 1
            kept.append(candidate)
    return kept


def _limited(candidates: Sequence[_Candidate], config: QaDataConfig) -> list[_Candidate]:
    """Within the limits of templates, of questions without a text, and of all."""
    of_rule: dict[tuple[str, int], int] = defaultdict(int)
    within = []
    for candidate in candidates:
        key = (candidate.counts.source, id(candidate.rule))
        if candidate.rule.most is not None and of_rule[key] >= candidate.rule.most:
            candidate.counts.dropped["more than the template's limit"] += 1
            continue
        of_rule[key] += 1
        within.append(candidate)
    share = config.closed_book_share
    closed = [c for c in within if c.rule.closed_book]
    texts = len(within) - len(closed)
    room = len(closed) if share == 1 else int(share * texts / (1 - share) + 1e-9)
    out = {id(c) for c in closed[room:]}
    for c in closed[room:]:
        c.counts.dropped["share without a text"] += 1
    rows = [c for c in within if id(c) not in out]
    for c in rows[config.limit :] if config.limit else []:
        c.counts.dropped["--limit"] += 1
    return rows[: config.limit]


def write_rows(path: Path, rows: Iterable[QaRow]) -> None:
    """Rows as JSON Lines, atomically, gzip'd where the name ends so; equal rows give equal bytes."""
    import gzip

    text = "".join(
        json.dumps(
            {"instruction": row.instruction, "input": row.input, "output": row.output, "source": row.source},
            ensure_ascii=False,
        )
        + "\n"
        for row in rows
    )
    data = text.encode("utf-8")
    with atomic_file(path) as handle:
        handle.write(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def summary(all_counts: Sequence[Counts], rows: Sequence[QaRow]) -> str:
    """The counts as a table: templates that are used, then those skipped, by their reason, then all."""
    from prettytable import PrettyTable

    table = PrettyTable(["set/template", "read", "kept", "text words", "answer words", "dropped"], align="r")
    table.align["set/template"] = table.align["dropped"] = "l"
    skipped: dict[str, list[Counts]] = defaultdict(list)
    for counts in all_counts:
        if counts.skip:
            skipped[counts.skip].append(counts)
            continue
        why = ", ".join(f"{number} {reason}" for reason, number in counts.dropped.most_common())
        text_words, answer_words = counts.means()
        table.add_row([counts.source, counts.read, len(counts.kept), f"{text_words:.0f}", f"{answer_words:.1f}", why])
    read = sum(counts.read for counts in all_counts if not counts.derived)
    everything = Counts("all", read, kept=list(rows))
    text_words, answer_words = everything.means()
    table.add_row(["all", everything.read, len(rows), f"{text_words:.0f}", f"{answer_words:.1f}", ""])
    lines = [table.get_string(), *(["", "skipped:"] if skipped else [])]
    for reason, group in sorted(skipped.items(), key=lambda item: -sum(counts.read for counts in item[1])):
        lines.append(f"{sum(c.read for c in group):7,} rows of {len(group):3} templates: {reason}")
    texts = Counter(row.input for row in rows if row.input)
    several = sum(1 for number in texts.values() if number > 1)
    closed = sum(not row.input for row in rows)
    lines += [
        "",
        f"{len(rows):,} rows; {len(texts):,} texts, {several:,} of them asked several questions; "
        f"{len({row.instruction for row in rows}):,} questions, {len({row.output for row in rows}):,} answers; "
        f"{closed:,} rows ({closed / max(len(rows), 1):.1%}) without a text",
    ]
    return "\n".join(lines)


def main(config: QaDataConfig) -> None:
    """Make the rows, write them and their report, print the table."""
    table = load_table()
    inputs = [config.data_dir / f.path for f in table.files if config.sets is None or f.set_name in config.sets]
    report_file = check_output(config.output, inputs)
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    rows, all_counts = make_rows(config, table)
    write_rows(config.output, rows)
    settings = ("sets", "limit", "seed", "max_words", "max_answer_words", "same_answer", "closed_book_share", "derived")
    report = {
        "settings": {name: getattr(config, name) for name in settings},
        "inputs": {str(path): sha256_file(path) for path in inputs},
        "output": {config.output.name: sha256_file(config.output)},
        "rows": len(rows),
        "templates": [counts.report() for counts in all_counts],
        "command": command_line(),
    }
    write_json(report_file, report)
    print(summary(all_counts, rows))
    print(f"{config.output}: {len(rows):,} rows; report: {report_file}")


if __name__ == "__main__":
    cli.run(main, QaDataConfig, description=__doc__)
