from __future__ import annotations

import gzip
import json
import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from training_fixtures import labelled, sentences, write_jsonl

from angle.encoder import load
from common import data
from common.data import Collator, RowList, RowStream, canonical_row, data_path, load_rows, split_columns
from common.encoder import Encoder
from common.errors import InputError
from common.training import shuffle_positives

TRIPLETS = sentences()[:5]
PAIRS = labelled()[:6]
FORMATS: dict[str, list[dict[str, Any]]] = {
    "A": PAIRS,
    "B": [{"query": r["query"], "positive": r["positive"]} for r in TRIPLETS],
    "C": TRIPLETS,
}


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> Encoder:
    return load(str(tiny_bert), dtype="float32")


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows in the kind of file that the name says."""
    frame = pd.DataFrame(rows)
    kind = path.name.split(".", 1)[1]
    if kind == "parquet":
        frame.to_parquet(path, index=False)
    elif kind == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    elif kind == "jsonl":
        write_jsonl(path, rows)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind.startswith("tsv") else ",")  # .gz by its name
    return path


@pytest.mark.parametrize("letter", "ABC")
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "csv.gz", "tsv", "tsv.gz", "parquet"])
def test_every_format_is_read_from_every_kind_of_file(tmp_path: Path, kind: str, letter: str) -> None:
    rows = load_rows(str(written(tmp_path / f"rows.{kind}", FORMATS[letter])))
    assert isinstance(rows, RowList)
    assert rows.rows == FORMATS[letter]
    assert rows.columns == tuple(FORMATS[letter][0])
    assert rows[3] == (3, FORMATS[letter][3])


@pytest.mark.parametrize(
    "raw",
    [
        {"sentence1": "a", "sentence2": "b", "score": "0.5"},
        {"s1": "a", "s2": "b", "similarity": 0.5},
        {"text1": "a", "text2": "b", "label": 0.5, "id": 7},
    ],
)
def test_pairs_under_other_names(raw: dict[str, Any]) -> None:
    assert canonical_row(raw, "here") == {"text1": "a", "text2": "b", "label": 0.5}


@pytest.mark.parametrize(
    "raw",
    [
        {"anchor": "a", "positive": "b", "negative": "c"},
        {"sent0": "a", "sent1": "b", "hard_neg": "c"},
        {"text": "a", "pos": "b", "neg": "c"},
    ],
)
def test_triplets_under_other_names(raw: dict[str, Any]) -> None:
    assert canonical_row(raw, "here") == {"query": "a", "positive": "b", "negative": "c"}


def test_a_column_of_nulls_is_no_column() -> None:
    assert canonical_row({"query": "a", "positive": "b", "negative": None}, "here") == {
        "query": "a",
        "positive": "b",
    }


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"question": "the cat", "answer": "le chat"}])
    rows = load_rows(str(path), rename={"question": "query", "answer": "positive"})
    assert rows.columns == ("query", "positive")
    with pytest.raises(InputError, match=r"r\.jsonl:1: columns question, answer .*column_rename_mapping"):
        load_rows(str(path))


def test_words_for_nli_labels_and_neutral_pairs_dropped(tmp_path: Path) -> None:
    words = ["entailment", "neutral", "Contradiction", "neutral"]
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": w} for i, w in enumerate(words)]
    found = load_rows(str(write_jsonl(tmp_path / "nli.jsonl", rows)))
    assert isinstance(found, RowList)
    assert [(r["text1"], r["label"]) for r in found.rows] == [("p0", 1.0), ("p2", 0.0)]


def test_only_neutral_pairs_are_no_data(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "nli.jsonl", [{"premise": "p", "hypothesis": "h", "label": "neutral"}])
    with pytest.raises(InputError, match=r"nli\.jsonl: no row to train on"):
        load_rows(str(path))


GOOD = {"query": "the cat", "positive": "le chat"}
GOOD_PAIR = {"text1": "the cat", "text2": "le chat", "label": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {"query": "", "positive": "x"}], r":2: column 'query' is empty"),
        ([GOOD, {"query": " \n", "positive": "x"}], r":2: column 'query' is empty"),
        ([GOOD, GOOD, {"query": 3, "positive": "x"}], r":3: column 'query' should be text, is int"),
        ([GOOD, {"query": "a", "positive": []}], r":2: column 'positive' is an empty list"),
        ([GOOD, {"query": "a", "positive": ["b", ""]}], r":2: column 'positive' is empty"),
        ([GOOD, {"query": "a", "positive": ["b", 1]}], r":2: column 'positive' should be text, is int"),
        ([GOOD_PAIR, {**GOOD_PAIR, "label": "much"}], r":2: column 'label' should be a number, is 'much'"),
        ([GOOD_PAIR, {**GOOD_PAIR, "label": True}], r":2: column 'label' should be a number, is True"),
        ([GOOD_PAIR, {**GOOD_PAIR, "label": "nan"}], r":2: column 'label' should be a number, is 'nan'"),
        ([GOOD_PAIR, {**GOOD_PAIR, "label": "-inf"}], r":2: column 'label' should be a number"),
        ([GOOD, {"query": "a"}], r":2: columns query are of no known format"),
        (
            [GOOD, {**GOOD, "negative": "x"}],
            r":2: columns query, positive, negative, but rows before have query,",
        ),
        ([GOOD, GOOD_PAIR], r":2: columns text1, text2, label, but rows before have query, positive"),
        ([{"a": "b", "c": "d"}], r":1: columns a, c are of no known format \(text1, text2, label; query"),
        ([GOOD, ["no", "object"]], r":2: "),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", rows)
    with pytest.raises(InputError, match=r"bad\.jsonl" + message) as caught:
        load_rows(str(path))
    assert "\n" not in str(caught.value)


def test_a_nan_label_of_parquet_is_refused(tmp_path: Path) -> None:
    pairs = [*PAIRS[:2], {**PAIRS[2], "label": math.nan}]
    pd.DataFrame(pairs).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="label"):
        load_rows(str(tmp_path / "p.parquet"))


def test_local_files_are_checked_to_the_end_before_anything_starts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "long.jsonl", [GOOD] * 999 + [{"query": "a", "positive": ""}])
    with pytest.raises(InputError, match=r"long\.jsonl:1000:"):
        load_rows(str(path))


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(InputError, match=r"e\.jsonl"):
        load_rows(str(tmp_path / "e.jsonl"))


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", TRIPLETS)
    rows = load_rows(str(path), limit=2)
    assert isinstance(rows, RowList)
    assert rows.rows == TRIPLETS[:2]


# -- where a name is looked up ----------------------------------------------------------------------


def test_the_shipped_triplets() -> None:
    rows = load_rows("shipped:triplets")
    assert isinstance(rows, RowList)
    assert rows.columns == ("query", "positive", "negative")
    assert len(rows) == 400


def test_a_shipped_name_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(InputError, match="shipped:triplets"):
        data_path("shipped:triples")


def test_a_path_goes_before_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "given", "environment"):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "x.jsonl", [GOOD])
    monkeypatch.setenv("EMBED_DATA", str(tmp_path / "environment"))
    monkeypatch.chdir(tmp_path)
    assert data_path("x.jsonl") == tmp_path / "environment" / "x.jsonl"
    assert data_path("x.jsonl", tmp_path / "given") == tmp_path / "given" / "x.jsonl"
    monkeypatch.chdir(tmp_path / "here")
    found = data_path("x.jsonl", tmp_path / "given")
    assert found is not None
    assert found.resolve() == tmp_path / "here" / "x.jsonl"


def test_a_missing_file_is_said_with_the_places_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)
    with pytest.raises(InputError, match=r"no file nothing\.jsonl; .*--data_dir"):
        data_path("nothing.jsonl")
    with pytest.raises(InputError, match=r"or .*nothing"):
        data_path("nothing", tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        data_path(str(tmp_path))


def test_a_hub_name_without_a_hub_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)
    monkeypatch.setattr(data, "hub_reachable", lambda: False)
    started = time.perf_counter()
    with pytest.raises(InputError, match="the hub does not answer") as caught:
        load_rows("someone/some-data")
    assert time.perf_counter() - started < 2
    assert "\n" not in str(caught.value)


# -- streams ----------------------------------------------------------------------------------------


def stream_of(rows: list[dict[str, Any]], **options: Any) -> RowStream:
    from datasets import IterableDataset

    def generate() -> Any:
        yield from rows

    arguments = {"rename": None, "limit": None, **options}
    return RowStream(IterableDataset.from_generator(generate), "stream", **arguments)


def test_a_stream_gives_numbered_rows_again_and_again() -> None:
    stream = stream_of(TRIPLETS)
    assert stream.columns == ("query", "positive", "negative")
    assert list(stream) == list(enumerate(TRIPLETS))
    assert list(stream) == list(enumerate(TRIPLETS))


def test_a_stream_finds_a_bad_row_when_it_gets_there() -> None:
    rows = iter(stream_of([GOOD, GOOD, {"query": "a", "positive": ""}]))
    assert next(rows) == (0, GOOD)
    assert next(rows) == (1, GOOD)
    with pytest.raises(InputError, match="stream:3: column 'positive' is empty"):
        next(rows)


def test_a_stream_is_renamed_and_limited() -> None:
    stream = stream_of([{"q": "a", "p": str(i)} for i in range(9)], rename={"q": "query", "p": "positive"}, limit=3)
    assert [row["positive"] for _, row in stream] == ["0", "1", "2"]


# -- the control data -------------------------------------------------------------------------------


def test_shuffled_positives_keep_texts_and_change_pairs() -> None:
    rows = RowList(sentences(), "s")
    shuffled = shuffle_positives(rows, seed=1)
    assert sorted(r["positive"] for r in shuffled.rows) == sorted(r["positive"] for r in rows.rows)
    assert [r["query"] for r in shuffled.rows] == [r["query"] for r in rows.rows]
    kept = sum(a["positive"] == b["positive"] for a, b in zip(rows.rows, shuffled.rows))
    assert kept < 10
    assert shuffle_positives(rows, seed=1).rows == shuffled.rows
    assert rows.rows == sentences()  # the original is not touched
    assert "shuffled positive" in shuffled.source


def test_of_labelled_pairs_the_labels_are_shuffled() -> None:
    rows = RowList(labelled(), "p")
    shuffled = shuffle_positives(rows, seed=1)
    assert [r["text2"] for r in shuffled.rows] == [r["text2"] for r in rows.rows]
    assert sum(r["label"] for r in shuffled.rows) == 96
    assert [r["label"] for r in shuffled.rows] != [r["label"] for r in rows.rows]


# -- batches ----------------------------------------------------------------------------------------


def test_a_batch_holds_column_after_column(encoder: Encoder) -> None:
    rows = [
        {"query": "the cat", "positive": "le chat dort", "negative": "le"},
        {"query": "dog", "positive": "le chien", "negative": "the cat"},
    ]
    batch = Collator(encoder)(list(enumerate(rows)))
    texts = [r[c] for c in ("query", "positive", "negative") for r in rows]
    ids = encoder.tokenize(texts)
    assert batch["columns"] == ["query", "positive", "negative"]
    assert batch["lengths"] == [len(s) for s in ids] == batch["attention_mask"].sum(1).tolist()
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (6, 5)
    for i, sequence in enumerate(ids):
        assert batch["input_ids"][i, : len(sequence)].tolist() == sequence
        assert (batch["input_ids"][i, len(sequence) :] == encoder.backbone.tokenizer.pad_token_id).all()
    assert "labels" not in batch
    parts = split_columns(torch.arange(6.0)[:, None], batch["columns"])
    assert {name: part[:, 0].tolist() for name, part in parts.items()} == {
        "query": [0, 1], "positive": [2, 3], "negative": [4, 5],
    }  # fmt: skip


def test_labels_are_fp32_in_row_order(encoder: Encoder) -> None:
    batch = Collator(encoder)(list(enumerate(PAIRS)))
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [p["label"] for p in PAIRS]
    assert batch["columns"] == ["text1", "text2"]


def test_text_ids_are_equal_exactly_where_token_ids_are(encoder: Encoder) -> None:
    texts = ["the cat", "cat the", "the  cat", "the cat sleeps", "le chat", "xyzzy", "plugh", "the cat"]
    rows = [{"query": t, "positive": "le chat"} for t in texts]
    batch = Collator(encoder)(list(enumerate(rows)))
    ids = [tuple(s) for s in encoder.tokenize(texts + ["le chat"] * len(texts))]
    assert batch["text_ids"].dtype == torch.int64
    assert (batch["text_ids"] >= 0).all()
    for i, one in enumerate(ids):
        for j, other in enumerate(ids):
            assert (batch["text_ids"][i] == batch["text_ids"][j]).item() == (one == other)
    assert ids[5] == ids[6]  # both unknown words: the model can't tell them apart, nor may the loss


def test_a_draw_from_a_list_depends_on_seed_and_row_alone(encoder: Encoder) -> None:
    choices = [f"le {noun}" for noun in ("chat", "chien", "cheval", "oiseau", "loup")]
    rows = [{"query": "the cat", "positive": choices} for _ in range(40)]
    items = list(enumerate(rows))

    def drawn(collator: Collator, some: list[tuple[int, Any]]) -> list[int]:
        return collator(some)["text_ids"][len(some) :].tolist()

    first = drawn(Collator(encoder, seed=1), items)
    assert drawn(Collator(encoder, seed=1), items) == first
    assert drawn(Collator(encoder, seed=1), items[30:]) == first[30:]  # also after a resume
    assert drawn(Collator(encoder, seed=2), items) != first
    assert len(set(first)) == len(choices)


def test_roles_choose_templates(tiny_bert: Path) -> None:
    encoder = load(str(tiny_bert), dtype="float32", query_template="sentence {text}")
    row = {"query": "cat", "positive": "cat"}
    plain = Collator(encoder)([(0, row)])
    assert plain["text_ids"][0] == plain["text_ids"][1]
    batch = Collator(encoder, roles={"query": "query"})([(0, row)])
    assert batch["lengths"] == [4, 3]
    assert encoder.tokenize(["sentence cat"])[0] == batch["input_ids"][0].tolist()
