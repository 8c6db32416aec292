"""Question, text and short answer out of the rows of local sets, as `qa_sets.yaml` says for each template."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from common.cli_values import load_mapping
from common.errors import InputError
from inbedder.answers import STOP_WORDS, simplify

TABLE = Path(__file__).with_name("qa_sets.yaml")
END = "<|endoftext|>"  # stands behind the answers of T0
EXPRESSIONS = ("prompt", "answers", "each", "remove")
INHERITED = ("prompt", "input", "remove", "cut")  # what the further questions of a row take over from its first

# What a web page or a tokenizer left in the texts, and what stood there before.
_LEFTOVERS = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"<br\s*/?>", "\n"),
        (r"</?[A-Za-z][^<>]{0,80}>", " "),
        (r"\\n", "\n"),
        (r"\\+", " "),
        (r"-lrb- ?", "("),
        (r" ?-rrb-", ")"),
        (r"(?<!\w)(``|'')(?!\w)|(?<!\w)``", '"'),
        (r"(?<=[^\W_])_(?=[^\W_])", " "),  # titles of Wikipedia
        (r"[^\S\n]+", " "),
        (r" ?\n\s*", "\n"),
    )
)
_WORD = re.compile(r"\w+(?:[.,'’-]\w+)*")
_NAME_PART = re.compile(r"[^\s\"“”()?,;:]+?(?=['’]s\b|[.]?(?:[\s\"“”()?,;:]|$))")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


def clean(text: str) -> str:
    """A text without mark-up, escapes and tokenizers' brackets, white space in order."""
    for _ in range(2):  # "&amp;lt;" is "&lt;" is "<"
        text = html.unescape(text)
    for pattern, replacement in _LEFTOVERS:
        text = pattern.sub(replacement, text)
    return text.strip()


def words(text: str) -> list[str]:
    """The words of a text in lower case; "U.S", "don't" and "1,200" are one word each."""
    return _WORD.findall(text.lower())


def content_words(answer: str) -> list[str]:
    """The words that are left of an answer when training simplifies it (`inbedder.answers`)."""
    return words(simplify(answer))


def shared_name(question: str, text: str) -> str:
    """The longest run of words that a question and a text share, in the text's spelling, "" where it is no name.

    In data where the question names an entity that the text describes this is the entity.
    """
    asked, told = (_NAME_PART.findall(part) for part in (question, text))
    lower = [word.lower() for word in asked]
    match = SequenceMatcher(None, autojunk=False)
    match.set_seq2([word.lower() for word in told])
    while True:
        match.set_seq1(lower)
        place, start, size = match.find_longest_match()
        if not size:
            return ""
        run = told[start : start + size]
        while run and run[0].lower() in STOP_WORDS:
            run = run[1:]
        while run and run[-1].lower() in STOP_WORDS:
            run = run[:-1]
        if run and not run[0][0].islower():
            return " ".join(run)
        lower[place : place + size] = [""] * size  # no name: look for the next longest


def first_sentences(text: str, most: int) -> str:
    """As many whole sentences from the start as have `most` words at most (the whole text where the first has more)."""
    end = 0
    for stop in [*(match.start() for match in _SENTENCE_END.finditer(text)), len(text)]:
        if len(text[:stop].split()) > most:
            break
        end = stop
    return text[:end] if end else text


@dataclass(frozen=True)
class QaRow:
    """One training row; `source` is "set/template", and ":name" behind it for a question that the data did not ask."""

    instruction: str
    input: str
    output: str
    source: str


def derived_source(source: str, derived: str | None) -> str:
    """The source of a rule's rows: that of the data, with the name of a question that the data did not ask."""
    return f"{source}:{derived}" if derived else source


@dataclass(frozen=True)
class Dropped:
    """A row, or one of its questions, that is left out, and why."""

    reason: str


@dataclass(frozen=True)
class Rule:
    """How one question is made of a row of a template; the settings of `qa_sets.yaml`."""

    prompt: re.Pattern[str] | None = None
    answers: re.Pattern[str] | None = None
    each: re.Pattern[str] | None = None
    input: str = "{input}"
    instruction: str | tuple[str, ...] | Mapping[str, str] = "{instruction}"
    answer: str = "{answer}"
    remove: re.Pattern[str] | None = None
    cut: bool = False
    grounded: bool = False
    most: int | None = None
    derived: str | None = None

    @property
    def closed_book(self) -> bool:
        """Whether the question is asked without a text."""
        return not self.input

    def rows(self, columns: Mapping[str, str], source: str, max_words: int) -> Iterator[QaRow | Dropped]:
        """The questions in one row of data.

        Args:
            columns: `input` (the whole prompt) and `answer`, and the other columns of the set.
            source: goes into the rows.
            max_words: longer texts end earlier where the rule may cut them, and are dropped where not.
        """
        values = dict(columns)
        for pattern, column in ((self.prompt, "input"), (self.answers, "answer")):
            if pattern is not None:
                match = pattern.fullmatch(values[column])
                if match is None:
                    yield Dropped("other form")
                    return
                values.update({name: text for name, text in match.groupdict().items() if text is not None})
        if self.each is None:
            yield self._row(values, source, max_words)
            return
        for match in self.each.finditer(columns["answer"]):
            yield self._row({**values, **match.groupdict()}, source, max_words)

    def _row(self, values: Mapping[str, str], source: str, max_words: int) -> QaRow | Dropped:
        whole = clean(_filled(self.input, values))
        if self.remove is not None:
            whole = self.remove.sub("", whole)
        text = first_sentences(whole, max_words) if self.cut else whole
        if len(text.split()) > max_words:
            return Dropped("long text")
        if "{shared}" in self.answer:
            values = {**values, "shared": shared_name(values["instruction"], text)}
        question = self.instruction
        if isinstance(question, Mapping):
            if values["key"] not in question:
                return Dropped("no question")
            question = question[values["key"]]
        elif isinstance(question, tuple):  # drawn by the text, so that it stays when other rows change
            question = question[int(hashlib.sha256(text.encode("utf-8")).hexdigest(), 16) % len(question)]
        question, answer = clean(_filled(question, values)), clean(_filled(self.answer, values)).rstrip(" .")
        if not question or (not text and not self.closed_book):
            return Dropped("empty part")
        content = set(content_words(answer))
        if self.grounded and not content <= set(words(text)):
            return Dropped("answer not in the text")
        if text != whole and content <= set(words(whole)) and not content <= set(words(text)):
            return Dropped("answer cut off")
        return QaRow(question[0].upper() + question[1:], text, answer, derived_source(source, self.derived))


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], pattern)


@dataclass(frozen=True)
class Template:
    """What is done with the rows of one template: questions made of them, or the reason why they are skipped."""

    name: str
    rules: tuple[Rule, ...] = ()
    skip: str | None = None


@dataclass(frozen=True)
class DataFile:
    """A file of a set: its columns and its templates."""

    path: str
    columns: Mapping[str, str]
    templates: Mapping[str, Template] = field(default_factory=dict)

    @property
    def set_name(self) -> str:
        """The folder of the set."""
        return self.path.partition("/")[0]

    def template(self, name: str) -> Template:
        """What the table says about a template: the exact name, else the longest name with * that fits.

        Raises:
            InputError: nothing fits.
        """
        fitting = [pattern for pattern in self.templates if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(f"{self.path}: template {name!r} is not in {TABLE.name}; add it there, or a skip")
        return self.templates[max(fitting, key=lambda pattern: (pattern == name, len(pattern)))]

    def values(self, row: Mapping[str, Any]) -> dict[str, str]:
        """The columns of a row as text, `input` and `answer` under these names; of several answers the first."""
        named = {name: row.get(column, "") for name, column in self.columns.items()}
        merged = {**row, "answer": row.get("answer", ""), **named}
        first = {name: value[0] if isinstance(value, list) and value else value for name, value in merged.items()}
        return {name: str(value or "").replace(END, "").strip() for name, value in first.items()}


@dataclass(frozen=True)
class Table:
    """The whole of `qa_sets.yaml`."""

    files: tuple[DataFile, ...]
    unanswerable: re.Pattern[str]

    @property
    def set_names(self) -> list[str]:
        """The folders of the sets, in the table's order."""
        return list(dict.fromkeys(file.set_name for file in self.files))


@cache
def load_table(path: Path = TABLE) -> Table:
    """The table, checked; InputError names the template of a setting that can't be."""
    content = load_mapping(path)
    files = []
    for name, entry in content["sets"].items():
        templates = {
            template: _template(template, spec, f"{path.name}: {name}: {template}")
            for template, spec in entry["templates"].items()
        }
        files.append(DataFile(name, entry["columns"], templates))
    return Table(tuple(files), _expression(content["unanswerable"], f"{path.name}: unanswerable"))


def _template(name: str, spec: Any, place: str) -> Template:
    if isinstance(spec, str) and spec.startswith("skip:"):
        return Template(name, skip=spec.removeprefix("skip:").strip())
    specs: Sequence[Any] = spec if isinstance(spec, list) else [spec]
    specs = [{"prompt": each} if isinstance(each, str) else each for each in specs]
    taken_over = {key: value for key, value in specs[0].items() if key in INHERITED}
    return Template(name, tuple(_rule({**taken_over, **each}, place) for each in specs))


def _rule(spec: Mapping[str, Any], place: str) -> Rule:
    known = {field.name for field in fields(Rule)}
    unknown = sorted(spec.keys() - known)
    if unknown:
        raise InputError(f"{place}: unknown setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    settings = dict(spec)
    for name in EXPRESSIONS:
        if name in settings:
            settings[name] = _expression(settings[name], place, re.MULTILINE if name == "each" else re.DOTALL)
    if isinstance(settings.get("instruction"), list):
        settings["instruction"] = tuple(settings["instruction"])
    return Rule(**settings)


def _expression(pattern: str, place: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise InputError(f"{place}: not a regular expression: {error}") from None
