"""bge_icl/batch_examples.py and collator.py: which rows become examples of which, how long, and the exact strings."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bge_icl.batch_examples import ExampleOptions, cut, draw_others, prefixes, room_for_examples
from bge_icl.collator import IclCollator
from bge_icl.encoder import load
from bge_icl.prompts import PLAIN_TEMPLATE
from bge_icl.recipe import IclConfig
from bge_icl.train_data import checked_row, data_sets
from common.data import RowList
from common.encoder import Encoder
from common.errors import InputError


@pytest.fixture(scope="module")
def encoder(golden: Any) -> Encoder:
    return load(str(golden.model), device="cpu", dtype="float32")


def rows_of(count: int, kind: str = "normal", name: str = "s", **more: Any) -> list[dict[str, Any]]:
    raw = [
        {"query": f"q{i}", "pos": [f"p{i}"], "neg": [f"n{i}", f"m{i}"], "prompt": "find", "type": kind, **more}
        for i in range(count)
    ]
    return [checked_row(row, f"f:{i}", name) for i, row in enumerate(raw)]


def collator_of(encoder: Encoder, rows: list[dict[str, Any]], **options: Any) -> IclCollator:
    sets = data_sets(RowList(rows, "f"), IclConfig(output_dir=Path("x")))
    return IclCollator(encoder, sets, ExampleOptions(**options), 64, seed=1)


def strings(encoder: Encoder, batch: dict[str, Any]) -> dict[str, list[str]]:
    decoded = [
        encoder.backbone.tokenizer.decode(ids[:n]) for ids, n in zip(batch["input_ids"].tolist(), batch["lengths"])
    ]
    size = len(decoded) // len(batch["columns"])
    return {name: decoded[i * size : (i + 1) * size] for i, name in enumerate(batch["columns"])}


def test_numbers_are_uniform_and_the_query_is_never_its_own_example() -> None:
    drawn = [draw_others(random.Random(seed), 10, 3, 5) for seed in range(6000)]
    assert all(3 not in d and len(set(d)) == len(d) for d in drawn)
    counts = Counter(map(len, drawn))
    assert set(counts) == set(range(6))
    assert all(abs(n - 1000) < 120 for n in counts.values())
    others = Counter(i for d in drawn for i in d)
    assert set(others) == set(range(10)) - {3}
    assert max(others.values()) < 1.15 * min(others.values())
    # fewer rows than asked for (the released draw fails)
    assert max(len(draw_others(random.Random(seed), 3, 0, 5)) for seed in range(50)) == 2
    assert draw_others(random.Random(0), 1, 0, 5) == []


def test_room_is_the_released_one_from_2048_on() -> None:
    assert [room_for_examples(2048, own) for own in (5, 600)] == [1536, 1536]
    assert room_for_examples(4096, 5) == 3584
    # a small limit: a quarter for the query, more where it needs it
    assert [room_for_examples(512, own) for own in (5, 200, 512)] == [384, 312, 0]


def test_cut_keeps_whole_characters(encoder: Encoder) -> None:
    tokenizer = encoder.backbone.tokenizer
    text = "héllo 価格 🙂 world"
    whole = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    for limit in range(1, whole + 2):
        (short,) = cut(tokenizer, [text], limit)
        assert text.startswith(short)
        assert len(tokenizer(short, add_special_tokens=False)["input_ids"]) <= limit
    assert short == text
    assert cut(tokenizer, [], 3) == []


def test_the_strings_of_a_batch(encoder: Encoder) -> None:
    rows = rows_of(4)
    batch = collator_of(encoder, rows)(list(enumerate(rows)))
    found = strings(encoder, batch)
    assert batch["columns"] == ["query", "positive", "negative_1", "negative_2"]
    assert batch["in_batch"] is True
    assert "labels" not in batch
    assert found["positive"] == [f"<s>p{i}</s>" for i in range(4)]
    assert [{a, b} for a, b in zip(found["negative_1"], found["negative_2"])] == [
        {f"<s>n{i}</s>", f"<s>m{i}</s>"} for i in range(4)
    ]
    examples = [f"<instruct>find\n<query>q{j}\n<response>p{j}\n\n" for j in range(4)]
    seen = set()
    for i, text in enumerate(found["query"]):
        own = f"<instruct>find\n<query>q{i}\n<response></s>"
        assert text.startswith("<s>")
        assert text.endswith(own)
        before = text.removeprefix("<s>").removesuffix(own)
        used = [j for j in range(4) if examples[j] in before]
        assert i not in used
        assert len(before) == sum(len(examples[j]) for j in used)
        seen.update(used)
    assert seen  # the seed does draw some


def test_symmetric_rows(encoder: Encoder) -> None:
    """Passages of semantic similarity and clustering are read as queries; a cluster's example answers its category."""
    for kind, instructed in (("symmetric_sts", True), ("symmetric_clustering", True), ("symmetric_class", False)):
        rows = rows_of(4, kind, **({"category": "cat"} if kind == "symmetric_clustering" else {}))
        batch = collator_of(encoder, rows)(list(enumerate(rows)))
        found = strings(encoder, batch)
        expected = "<s><instruct>find\n<query>p1\n<response></s>" if instructed else "<s>p1</s>"
        assert found["positive"][1] == expected
        assert batch["in_batch"] is (kind == "symmetric_sts")
        answers = "".join(text.rsplit("\n\n", 1)[0] for text in found["query"] if "\n\n" in text)
        assert ("<response>cat" in answers) == (kind == "symmetric_clustering")


def test_plain_prompt(golden: Any) -> None:
    plain = load(str(golden.model), device="cpu", dtype="float32", template=PLAIN_TEMPLATE)
    rows = rows_of(6)
    batch = collator_of(plain, rows, answer="\nResponse: ")(list(enumerate(rows)))
    text = max(strings(plain, batch)["query"], key=len)
    assert "<instruct>" not in text
    assert text.endswith("Response:</s>")
    assert "\nResponse: p" in text


def test_a_batch_depends_on_its_rows_and_the_seed_alone(encoder: Encoder) -> None:
    rows = rows_of(8)
    items = list(enumerate(rows))
    one, again = collator_of(encoder, rows), collator_of(encoder, rows)
    again(items[:5])  # another batch before: a worker that has done other work
    first = one(items)["input_ids"].tolist()
    assert again(items)["input_ids"].tolist() == first
    one.seed = 2
    assert one(items)["input_ids"].tolist() != first
    # another batch, other examples
    other = strings(encoder, again(items[::-1]))["query"][::-1]
    assert other != strings(encoder, again(items))["query"]


def test_limits(encoder: Encoder) -> None:
    tokenizer = encoder.backbone.tokenizer
    rows = rows_of(6)
    for row in rows:
        row["query"], row["positive"] = "how long " * 40, ["an answer " * 40]
    options = ExampleOptions(query_max_len=300, example_query_max_len=20, example_passage_max_len=10)
    queries = ["<instruct>find\n<query>" + row["query"] for row in rows]
    draws = [random.Random(i) for i in range(6)]
    made = prefixes(tokenizer, rows, queries, [row["positive"][0] for row in rows], draws, options)
    assert any(made)
    for text in made:
        for example in filter(None, text.split("\n\n")):
            query, answer = example.split("\n<response>")
            assert len(tokenizer(query, add_special_tokens=False)["input_ids"]) <= 20
            assert len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= 10
    batch = collator_of(encoder, rows, query_max_len=300, example_query_max_len=20)(list(enumerate(rows)))
    count = len(rows)
    assert max(batch["lengths"][:count]) <= 300
    assert max(batch["lengths"][count:]) <= 64
    # a query keeps at least a quarter of its limit, and no example is cut
    for text in strings(encoder, batch)["query"]:
        assert text.endswith("<response></s>")
        assert text.count("<response>") == text.count("<instruct>")
    # the prompt alone does not fit: the flag is named
    with pytest.raises(InputError, match="--query_max_len"):
        collator_of(encoder, rows, query_max_len=3, most=0)(list(enumerate(rows)))


def test_no_examples_where_they_are_not_wanted(encoder: Encoder) -> None:
    rows = rows_of(6)
    for options in ({"most": 0}, {"retrieval": False}):
        found = strings(encoder, collator_of(encoder, rows, **options)(list(enumerate(rows))))
        assert all(text.count("<instruct>") == 1 for text in found["query"])
    sts = rows_of(6, "symmetric_sts")
    found = strings(encoder, collator_of(encoder, sts, retrieval=False)(list(enumerate(sts))))
    assert any(text.count("<instruct>") > 1 for text in found["query"])


def test_teacher_scores_go_with_their_texts(encoder: Encoder) -> None:
    raw = {"query": "q", "pos": ["a", "b"], "neg": ["c", "d", "e"], "prompt": "find",
           "pos_scores": [1, 2], "neg_scores": [3, 4, 5]}  # fmt: skip
    rows = [checked_row(raw, f"f:{i}", "s") for i in range(4)]
    value = dict(zip("abcde", (1.0, 2.0, 3.0, 4.0, 5.0)))
    drawn = set()
    for numbers in (range(4), range(4, 8), range(8, 12)):
        batch = collator_of(encoder, rows)(list(zip(numbers, rows)))
        found = strings(encoder, batch)
        for i, scores in enumerate(batch["labels"].tolist()):
            texts = [found[name][i].removeprefix("<s>").removesuffix("</s>") for name in batch["columns"][1:]]
            assert scores == [value[t] for t in texts]
            assert set(texts[1:]) == set("cde")
            drawn.add(texts[0])
    assert drawn == {"a", "b"}  # one positive per row and step


def test_rows_of_several_sets_are_only_counted(encoder: Encoder) -> None:
    rows = [*rows_of(3), *rows_of(3, "only_1neg", name="t")]
    collator = collator_of(encoder, rows)
    mixed = collator(list(enumerate(rows)))
    assert set(mixed) == {"attention_mask"}
    apart = [collator(list(enumerate(rows))[:3]), collator(list(enumerate(rows))[3:])]
    assert int(mixed["attention_mask"].sum()) == sum(sum(one["lengths"]) for one in apart)
