from __future__ import annotations

import re

import pytest
from core_texts import PROMPT
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.prompts import Template, check_texts

INSTRUCTED = "Instruct: {instruction}\nQuery: {text}"


@given(st.text())
def test_any_text_is_put_in_as_it_is(text: str) -> None:
    rendered = Template(PROMPT).render(text)
    assert (rendered.prefix, rendered.text, rendered.suffix) == (
        'Summarize sentence "',
        text,
        '" in one word:"',
    )
    assert rendered.full == f'Summarize sentence "{text}" in one word:"'


@pytest.mark.parametrize(
    "braces", ["{}", "{0}", "{name}", "{{text}}", "{text!r}", "{ text }", "{", "}", "{instruction}"]
)
def test_braces_in_a_text_are_text(braces: str) -> None:
    assert Template(INSTRUCTED).render(braces, instruction=braces).full == f"Instruct: {braces}\nQuery: {braces}"


def test_braces_in_a_template_are_text_unless_they_name_a_field() -> None:
    assert Template('{"a": {0}, {x}} {{ {text} }}').render("t").full == '{"a": {0}, {x}} {{ t }}'


@pytest.mark.parametrize(
    ("pattern", "plain", "says"),
    [
        ("no place", None, "{text} exactly once, has it 0 times"),
        ("", None, "{text} exactly once, has it 0 times"),
        ("{text} and {text}", None, "has it 2 times"),
        ("{instruction} {instruction} {text}", None, "{instruction} more than once"),
        ("{examples}{examples}{text}", None, "{examples} more than once"),
        (INSTRUCTED, "plain", "exactly once, has it 0 times"),
        (INSTRUCTED, "{instruction}{text}", "has a place for one"),
    ],
)
def test_a_wrong_template_is_refused_with_its_pattern(pattern: str, plain: str | None, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        Template(pattern, plain)


def test_instruction_rules() -> None:
    with pytest.raises(InputError, match="needs an instruction"):
        Template(INSTRUCTED).render("t")
    with pytest.raises(InputError, match="no place for an instruction"):
        Template(PROMPT).render("t", instruction="i")
    with pytest.raises(InputError, match="no place for an instruction"):
        Template(PROMPT).render("t", instruction="")
    assert Template(INSTRUCTED, "Query: {text}").render("t").full == "Query: t"
    assert Template(INSTRUCTED, "Query: {text}").render("t", instruction="i").full == "Instruct: i\nQuery: t"
    # An empty instruction is one that was given.
    assert Template(INSTRUCTED, "Query: {text}").render("t", instruction="").full == "Instruct: \nQuery: t"
    assert Template(INSTRUCTED).takes_instruction
    assert not Template(PROMPT).takes_instruction


def test_examples_stand_before_and_after_without_touching_the_text() -> None:
    template = Template("{examples}\n\n{instruction}: {text}\n=>")
    rendered = template.render("{examples}", instruction="{text}", examples="a -> b")
    assert rendered.prefix == "a -> b\n\n{text}: "
    assert (rendered.text, rendered.suffix) == ("{examples}", "\n=>")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "expected str, got None"),
        (b"bytes", "expected str, got bytes"),
        (7, "expected str, got int"),
        (float("nan"), "expected str, got float"),
        (["nested"], "expected str, got list"),
        ("half \ud83d pair", "lone surrogate at character 5"),
    ],
)
def test_a_wrong_item_is_named_by_its_index(item: object, says: str) -> None:
    with pytest.raises(InputError, match=rf"texts\[2\]: .*{says}"):
        check_texts(["a", "b", item, None])


@pytest.mark.parametrize("texts", [None, 3, b"bytes", {"text": "a"}])
def test_what_is_no_list_of_texts_is_refused_by_its_type(texts: object) -> None:
    with pytest.raises(InputError, match=f"texts: .*got {type(texts).__name__}"):
        check_texts(texts)


@pytest.mark.parametrize("texts", [["a", ""], ("a", ""), iter(["a", ""])])
def test_lists_tuples_and_iterators_are_taken(texts: object) -> None:
    assert check_texts(texts) == ["a", ""]
