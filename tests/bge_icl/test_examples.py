"""bge_icl/examples.py and prompts.py: published files, checks with their place, the text before a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bge_icl.examples import Example, check_examples, examples_text, read_examples
from bge_icl.prompts import EXAMPLE_FORMAT, fill
from common.errors import InputError


def test_a_list_of_query_and_response(tmp_path: Path) -> None:
    file = tmp_path / "FiQA2018.json"
    file.write_text(json.dumps([{"query": "q1", "response": "r1"}, {"query": "q2", "response": "r2"}]))
    assert read_examples(file) == [Example("q1", "r1"), Example("q2", "r2")]


def test_lines_of_query_and_pos(tmp_path: Path) -> None:
    file = tmp_path / "law.jsonl"
    file.write_text('{"query": "q1", "pos": "p1"}\n{"query": "q2", "pos": ["p2", "p3"]}\n')
    assert read_examples(file) == [Example("q1", "p1"), Example("q2", "p2")]


def test_files_that_are_wrong_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*missing\.json"):
        read_examples(tmp_path / "missing.json")
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    with pytest.raises(InputError, match=r"empty\.json holds no rows"):
        read_examples(empty)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps([{"query": "q", "response": "r"}, {"query": "q"}]))
    with pytest.raises(InputError, match=r"bad\.json:2: needs query, response .*has query$"):
        read_examples(file)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"query": "q"}, r"examples\[1\]: needs query, response"),
        ({"response": "r"}, r"examples\[1\]: needs query"),
        ({"query": "q", "response": "r", "pos": "p"}, r"examples\[1\]: needs"),
        ({"query": "q", "response": "r", "instruction": "i"}, r"has query, response, instruction$"),
        ({"query": "q", "response": None}, r"examples\[1\]: response is no text but None"),
        ({"query": "q", "response": "r", "instruct": 3}, r"examples\[1\]: instruct is no text but 3"),
        ("q", r"examples\[1\]: expected \{instruct, query, response\}"),
    ],
)
def test_a_wrong_example_is_named(example: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_examples([{"query": "q", "response": "r"}, example])


@pytest.mark.parametrize("examples", ["examples.json", {"query": "q", "response": "r"}, 3])
def test_what_is_no_list(examples: Any) -> None:
    with pytest.raises(InputError, match="expected a list"):
        check_examples(examples)


def test_the_text_before_a_query() -> None:
    examples = check_examples([{"instruct": "I", "query": "a", "response": "b"}, {"query": "c", "response": "{d}"}])
    assert examples_text(examples, "J") == (
        "<instruct>I\n<query>a\n<response>b\n\n<instruct>J\n<query>c\n<response>{d}\n\n"
    )
    assert examples_text([]) == ""
    assert examples_text(check_examples(None)) == ""
    with pytest.raises(InputError, match=r"examples\[1\]: has no instruct"):
        examples_text(examples)


def test_formats() -> None:
    assert fill("{}: {}", "{}", "b") == "{}: b"
    assert fill("<instruct>{}\\n<query>{}", "a", "b") == "<instruct>a\n<query>b"
    assert fill("{0} {}", "a") == "{0} a"
    assert EXAMPLE_FORMAT == "<instruct>{}\n<query>{}\n<response>{}"
    with pytest.raises(InputError, match=r"needs \{\} 2 times, has it 1 times"):
        fill("{}", "a", "b")
