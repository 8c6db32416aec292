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
from common.tokenization import check_pooled, tokenize

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
    result = tokenize(tokenizer, rendered, 60, compat={"angle:tail-truncation"})
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
    assert result.pooled is None
    assert tokenize(tokenizer, [], 8, pooled="text").pooled == []


# ------------------------------ which tokens are pooled


@pytest.fixture(scope="module", params=["llama", "bos_llama", "bert"])
def framing(request: pytest.FixtureRequest) -> tuple[Any, int, int]:
    """A tokenizer, and how many tokens it puts before and behind a text by itself."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    before, behind = {"llama": (0, 0), "bos_llama": (1, 0), "bert": (1, 1)}[request.param]
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), before, behind


def pieces(tokenizer: Any, template: Template, text: str, pooled: Any, **options: Any) -> tuple[str, str, str]:
    """What is before, in, and behind the pooled span, read back as text, special tokens included."""
    result = tokenize(tokenizer, [template.render(text)], options.pop("max_length", 200), pooled=pooled, **options)
    ids, (start, end) = result.ids[0], result.pooled[0]  # type: ignore[index]
    assert 0 <= start <= end <= len(ids)
    return tuple(tokenizer.decode(part).strip() for part in (ids[:start], ids[start:end], ids[end:]))  # type: ignore[return-value]


def test_all_tokens_of_a_bare_text_but_those_that_the_tokenizer_adds(framing: tuple[Any, int, int]) -> None:
    tokenizer, before, behind = framing
    rendered = [Template().render(t) for t in TEXTS]
    text, both, everything = (tokenize(tokenizer, rendered, 200, pooled=p) for p in ("text", "text_and_suffix", "all"))
    assert text.ids == both.ids == everything.ids
    assert everything.pooled is None
    assert text.pooled == [(before, len(ids) - behind) for ids in text.ids]
    assert both.pooled == [(before, len(ids)) for ids in text.ids]


def test_the_template_is_not_the_text(framing: tuple[Any, int, int]) -> None:
    tokenizer, before, _ = framing
    template = Template("the topic: {text}. answer")
    begin, end = (tokenizer.decode(ids_of(tokenizer, "")[s]) for s in (slice(0, before), slice(before, None)))
    head, text, tail = pieces(tokenizer, template, "a black cat", "text")
    assert (head.replace(" ", ""), text, tail.replace(" ", "")) == (f"{begin}thetopic:", "a black cat", f".answer{end}")
    head, text, tail = pieces(tokenizer, template, "a black cat", "text_and_suffix")
    assert (text.replace(" ", ""), tail) == (f"ablackcat.answer{end}", "")
    # Shortened, the text is what is left of it.
    length = len(ids_of(tokenizer, "the topic: . answer")) + 3
    head, text, tail = pieces(tokenizer, template, "a black cat " * 20, "text", max_length=length)
    assert text
    assert "a black cat a black cat".startswith(text)
    assert tail.replace(" ", "") == f".answer{end}"


@settings(deadline=None, max_examples=80)
@given(text=st.text(max_size=40), room=st.integers(2, 60))
@example(text="👩🏽‍🚀", room=60)
@example(text="価格 é", room=60)
@example(text="...", room=60)
def test_every_character_of_the_text_and_no_token_without_one(
    framing: tuple[Any, int, int], text: str, room: int
) -> None:
    tokenizer, *_ = framing
    template = Template("about: {text}. so")
    limit = len(ids_of(tokenizer, "about: . so")) + room
    result = tokenize(tokenizer, [template.render(text)], limit, pooled="text")
    start, end = result.pooled[0]  # type: ignore[index]
    if result.truncated:
        return
    encoded = tokenizer(template.render(text).full, return_offsets_mapping=True)
    first, last = len("about: "), len("about: ") + len(text)
    for i, (b, e) in enumerate(encoded["offset_mapping"]):
        if e > b:
            assert (start <= i < end) == (b < last and e > first)
        else:
            assert not start <= i < end


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_leaves_the_suffix(framing: tuple[Any, int, int], text: str) -> None:
    tokenizer, _, behind = framing
    end = tokenizer.decode(ids_of(tokenizer, "")[-behind:]) if behind else ""
    _, pooled, _ = pieces(tokenizer, Template("about {text}. so"), text, "text_and_suffix")
    assert pooled.replace(" ", "") == f".so{end}"
    for template in (Template("about {text}"), Template()):
        _, pooled, tail = pieces(tokenizer, template, "", "text")
        assert (pooled, tail.endswith(end)) == ("", True)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(InputError, match="pooled 'texts' is not one of all, text, text_and_suffix"):
        check_pooled("texts")


# ------------------------------ texts shortened by themselves


@pytest.mark.parametrize("limit", [1, 4, 30])
def test_a_text_has_at_most_so_many_tokens(framing: tuple[Any, int, int], limit: int) -> None:
    tokenizer, *_ = framing
    template = Template("about: {text}. so")
    rendered = [template.render(t) for t in (LONG, "rain", "")]
    whole = tokenize(tokenizer, rendered, 2000, pooled="text")
    result = tokenize(tokenizer, rendered, 2000, pooled="text", max_text_length=limit)
    lengths = [e - b for b, e in result.pooled]  # type: ignore[union-attr]
    assert limit - 2 <= lengths[0] <= limit
    assert result.ids[2] == whole.ids[2]
    assert (result.ids[1] == whole.ids[1]) == (whole.pooled[1][1] - whole.pooled[1][0] <= limit)  # type: ignore[index]
    around = len(ids_of(tokenizer, "about: . so"))
    assert len(result.ids[0]) - lengths[0] in (around - 1, around)
    assert tokenize(tokenizer, rendered, 2000, max_text_length=limit).ids == result.ids
    assert result.truncated == sum(e - b > limit for b, e in whole.pooled)  # type: ignore[union-attr]


def test_compat_shortens_by_words_until_nothing_is_left(llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder, local_files_only=True)
    words = {"compat": {"llm2vec:word-truncation"}, "max_text_length": 6}

    def left(text: str, max_length: int = 100) -> str:
        return tokenizer.decode(tokenize(tokenizer, [Template().render(text)], max_length, **words).ids[0])

    assert left("the cat  sat") == "the cat  sat"  # short enough: as it is
    count = len(ids_of(tokenizer, "the  mat " * 8))
    assert left("the  mat " * 8) == " ".join(["the mat"] * 8)[: len(left("the  mat " * 8))]
    first = int(16 * (6 / count))
    assert len(left("the  mat " * 8).split()) <= first
    assert left("thecat" * 20) == tokenizer.eos_token  # one word: nothing is left of it
    # The count of tokens stops at max_length, so the first round keeps more words.
    assert len(left("the mat " * 40, 12).split()) >= len(left("the mat " * 40).split())


def test_compat_counts_the_tokens_of_the_text_alone(llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder, local_files_only=True)
    rendered = [Template("about: {text}. so").render(t) for t in ("a black cat", "")]
    result = tokenize(tokenizer, rendered, 100, pooled="text_and_suffix", compat={"llm2vec:embed-mask"})
    alone = [len(ids_of(tokenizer, t, add_special_tokens=False)) for t in ("a black cat. so", ". so")]
    assert result.pooled == [(len(ids) - n, len(ids)) for ids, n in zip(result.ids, alone)]
