from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from core_texts import PROMPT, TEXTS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from common.errors import InputError
from common.prompts import Template
from common.tokenization import tokenize

LONG = " ".join(TEXTS * 4)
TEMPLATE = Template(PROMPT)
PREFIX, SUFFIX = PROMPT.split("{text}")


@pytest.fixture(scope="module", params=["llama", "bert"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def ids_of(tokenizer: Any, text: str, **options: Any) -> list[int]:
    return list(tokenizer(text, verbose=False, **options)["input_ids"])


def check_keeps_template(tokenizer: Any, text: str, room: int) -> list[int]:
    """Shorten a text to `room` tokens beyond the bare template; assert what must hold; the ids."""
    rendered = TEMPLATE.render(text)
    whole = ids_of(tokenizer, rendered.full)
    max_length = len(ids_of(tokenizer, PREFIX + SUFFIX)) + room
    result = tokenize(tokenizer, [rendered], max_length)
    ids = result.ids[0]
    before = ids_of(tokenizer, PREFIX, add_special_tokens=False)
    after = ids_of(tokenizer, SUFFIX, add_special_tokens=False)
    around = [i for i in ids_of(tokenizer, "") if i in tokenizer.all_special_ids]
    head, tail = around[:1], around[1:]
    assert len(ids) <= max_length
    assert ids[: len(head + before)] == head + before
    assert ids[-len(after[1:] + tail) :] == after[1:] + tail  # its first mark may have grown together with the text
    assert result.truncated == int(len(whole) > max_length)
    if not result.truncated:
        assert ids == whole
    return ids


@settings(deadline=None, max_examples=150)
@given(text=st.text(max_size=60), room=st.integers(1, 50))
@example(text="👩🏽‍🚀" * 20, room=7)
@example(text="é" * 40, room=3)
@example(text="e\u0301" * 40, room=5)
@example(text=LONG, room=1)
@example(text='"' * 30, room=4)
@example(text=" " * 30, room=2)
def test_shortening_never_touches_the_template(tokenizer: Any, text: str, room: int) -> None:
    check_keeps_template(tokenizer, text, room)


@pytest.mark.parametrize("room", [5, 20, 60])
def test_shortening_uses_the_room_there_is(tokenizer: Any, room: int) -> None:
    ids = check_keeps_template(tokenizer, LONG, room)
    full = len(ids_of(tokenizer, PREFIX + SUFFIX)) + room
    # A character of several tokens goes as a whole; a word cut in two may take a token more or less.
    assert full - 4 <= len(ids) <= full


def test_only_the_overlong_are_shortened_and_counted(tokenizer: Any) -> None:
    texts = [TEXTS[0], LONG, TEXTS[2], LONG]
    result = tokenize(tokenizer, [TEMPLATE.render(t) for t in texts], 60)
    assert result.truncated == 2
    assert result.ids[0] == ids_of(tokenizer, TEMPLATE.render(texts[0]).full)
    assert result.ids[2] == ids_of(tokenizer, TEMPLATE.render(texts[2]).full)
    assert result.ids[1] == result.ids[3]


def test_compat_cuts_the_tail_of_the_whole_string(tokenizer: Any) -> None:
    rendered = [TEMPLATE.render(LONG), TEMPLATE.render(TEXTS[0])]
    result = tokenize(tokenizer, rendered, 60, cut_tail=True)
    expected = ids_of(tokenizer, rendered[0].full, truncation=True, max_length=60)
    assert result.ids[0] == expected
    assert result.truncated == 1
    assert result.ids[0] != tokenize(tokenizer, rendered, 60).ids[0]
    assert result.ids[1] == ids_of(tokenizer, rendered[1].full)


def test_a_template_that_does_not_fit_is_an_error(tokenizer: Any) -> None:
    alone = len(ids_of(tokenizer, PREFIX + SUFFIX))
    with pytest.raises(InputError, match=f"max_length {alone - 1}: the template alone has {alone} tokens"):
        tokenize(tokenizer, [TEMPLATE.render(LONG)], alone - 1)


def test_a_plain_text_is_cut_where_the_tokenizer_cuts_it(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder, local_files_only=True)
    expected = ids_of(tokenizer, LONG, truncation=True, max_length=40)
    assert tokenize(tokenizer, [Template().render(LONG)], 40).ids == [expected]


def test_an_empty_text_without_special_tokens_becomes_one_end_token(llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder, local_files_only=True)
    assert tokenize(tokenizer, [Template().render("")], 8).ids == [[tokenizer.eos_token_id]]


def test_nothing_in_nothing_out(tokenizer: Any) -> None:
    result = tokenize(tokenizer, [], 8)
    assert (result.ids, result.truncated) == ([], 0)
