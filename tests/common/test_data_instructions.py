"""What rows say besides their texts: instructions and data sets, from the file to the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from training_fixtures import labelled, sentences, write_jsonl

from angle.encoder import load
from common.backbone import load_backbone
from common.data import Collator, RowList, canonical_row, load_rows
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template

TRIPLETS, PAIRS = sentences()[:5], labelled()[:6]


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> Encoder:
    return load(str(tiny_bert), dtype="float32")


def csv_of(path: Path, row: dict[str, Any]) -> Path:
    pd.DataFrame([row]).to_csv(path, index=False)
    return path


SAID = {"instruction": "word :", "document_instruction": "sentence :", "dataset": "nq"}


def test_what_is_said_of_a_row_goes_along_and_is_no_column(tmp_path: Path) -> None:
    rows = [{**TRIPLETS[0], **SAID, "id": 7}, {**TRIPLETS[1], "dataset": "squad"}, TRIPLETS[2]]
    found = load_rows(str(write_jsonl(tmp_path / "said.jsonl", rows)))
    assert isinstance(found, RowList)
    assert found.columns == ("query", "positive", "negative")
    assert found.rows[0] == {**TRIPLETS[0], **SAID}
    assert found.sets == ["nq", "squad", ""]
    assert RowList(TRIPLETS, "plain").sets is None
    csv = load_rows(str(csv_of(tmp_path / "said.csv", {**TRIPLETS[0], **SAID})))
    assert isinstance(csv, RowList)
    assert csv.rows == [{**TRIPLETS[0], **SAID}]


def test_what_is_said_must_be_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "said.jsonl", [TRIPLETS[0], {**TRIPLETS[1], "instruction": 3}])
    with pytest.raises(InputError, match=r"said\.jsonl:2: column 'instruction' should be text, is int"):
        load_rows(str(path))


def test_a_null_says_nothing() -> None:
    assert canonical_row({**TRIPLETS[0], "instruction": None, "dataset": None}, "here") == TRIPLETS[0]


@pytest.fixture(scope="module")
def instructed(tiny_llama: Path) -> Encoder:
    """Reads "instruction text word", pools the text alone, and puts no token around a text."""
    template = Template("{instruction} {text} word", "{text} word")
    backbone = load_backbone(str(tiny_llama), dtype="float32", device="cpu")
    return Encoder(backbone, method="llm2vec", template=template, pooled="text")


def test_every_text_gets_its_rows_instruction(instructed: Encoder) -> None:
    rows = [{**TRIPLETS[0], **SAID}, TRIPLETS[1], {**TRIPLETS[2], "instruction": "Summarize"}]
    batch = Collator(instructed, instructions={"query": "one", "negative": "in"})(list(enumerate(rows)))
    # A row's own goes before that of its column.
    queries, documents = ["word :", "one", "Summarize"], ["sentence :", None, None]
    negatives = ["sentence :", "in", "in"]
    expected = [
        instructed.tokens([row[column]], "text", [given]).ids[0]
        for column, given_ in (("query", queries), ("positive", documents), ("negative", negatives))
        for row, given in zip(rows, given_)
    ]
    found = [ids[:n].tolist() for ids, n in zip(batch["input_ids"], batch["lengths"])]
    assert found == expected
    assert batch["columns"] == ["query", "positive", "negative"]


def test_of_labelled_pairs_text1_is_the_query(instructed: Encoder) -> None:
    batch = Collator(instructed)([(0, {**PAIRS[0], **SAID})])
    decode = instructed.backbone.tokenizer.decode
    first, second = (decode(ids[:n]) for ids, n in zip(batch["input_ids"], batch["lengths"]))
    assert first.startswith("word :")
    assert second.startswith("sentence :")
    assert batch["labels"].tolist() == [PAIRS[0]["label"]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_pool_mask_is_on_the_text_alone(instructed: Encoder, side: Any) -> None:
    rows = [{"query": "the cat sleeps", "positive": "le chat", **SAID}, {"query": "dog", "positive": "le chien dort"}]
    batch = Collator(instructed, pad_side=side)(list(enumerate(rows)))
    decode = instructed.backbone.tokenizer.decode
    pooled = [decode(ids[mask.bool()]) for ids, mask in zip(batch["input_ids"], batch["pool_mask"])]
    assert pooled == ["the cat sleeps", "dog", "le chat", "le chien dort"]
    assert (batch["pool_mask"] <= batch["attention_mask"]).all()
    edge = batch["attention_mask"][:, 0 if side == "right" else -1]
    assert edge.all()
    assert (batch["lengths"] is None) is (side == "left")


def test_without_a_part_left_out_there_is_no_pool_mask(encoder: Encoder) -> None:
    assert "pool_mask" not in Collator(encoder)([(0, TRIPLETS[0])])


def test_equal_texts_are_equal_whatever_their_instruction(instructed: Encoder) -> None:
    rows = [
        {"query": "the cat", "positive": "le chat", "instruction": "word :"},
        {"query": "le chat", "positive": "the cat", "instruction": "one :"},
        {"query": "the cat", "positive": "le chien"},
    ]
    ids = Collator(instructed)(list(enumerate(rows)))["text_ids"].tolist()
    cat, chat, chien = ids[0], ids[1], ids[5]
    assert ids == [cat, chat, cat, chat, cat, chien]
    assert len({cat, chat, chien}) == 3


def test_instructions_without_a_place_are_left_out_and_said_once(
    encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    collator = Collator(encoder)
    items = [(0, {**TRIPLETS[0], **SAID}), (1, TRIPLETS[1])]
    plain = Collator(encoder)([(0, TRIPLETS[0]), (1, TRIPLETS[1])])
    with caplog.at_level("WARNING"):
        for _ in range(2):
            assert torch.equal(collator(items)["input_ids"], plain["input_ids"])
    assert [r.getMessage() for r in caplog.records] == [
        "the rows have instructions, but template '{text}' has no place for one"
    ]
