"""Token accuracy, and F1 of entities and chunks, against counts by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from word_fixtures import split_of, write_data, write_rows

from common.errors import InputError
from llm2vec.word_data import read_file
from llm2vec.word_metrics import class_table, floors, score, table

GOLD = [
    ["B-PER", "I-PER", "O", "O", "B-LOC"],
    ["O", "B-ORG", "I-ORG", "O"],
    ["B-LOC", "B-LOC", "O"],
]
PREDICTED = [
    ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"],  # the person is right; the place begins too early
    ["O", "B-ORG", "O", "O"],  # too short
    ["B-LOC", "I-LOC", "O"],  # two places in one
]


def test_scores_by_hand() -> None:
    found = score(GOLD, PREDICTED, "entity")
    assert (found.sentences, found.tokens, found.correct_tokens) == (3, 12, 8)
    assert found.token_accuracy == pytest.approx(8 / 12)
    spans = found.spans
    assert spans is not None
    assert (spans.kind, spans.gold, spans.predicted, spans.correct) == ("entity", 5, 4, 1)
    assert spans.precision == pytest.approx(1 / 4)
    assert spans.recall == pytest.approx(1 / 5)
    assert spans.f1 == pytest.approx(2 / 9)
    by_type = {one.name: (one.gold, one.predicted, one.correct) for one in spans.types}
    assert by_type == {"PER": (1, 1, 1), "LOC": (3, 2, 0), "ORG": (1, 1, 0)}
    assert spans.macro_f1 == pytest.approx(1 / 3)
    tags = {one.name: (one.gold, one.predicted, one.correct) for one in found.classes}
    assert tags["B-LOC"] == (3, 2, 1)
    assert tags["O"] == (5, 5, 4)
    assert tags["I-LOC"] == (0, 2, 0)
    plain = found.to_dict()
    assert plain["entity_f1"] == spans.f1
    assert plain["counts"] == {"sentences": 3, "tokens": 12, "correct_tokens": 8, "gold_entities": 5,
                               "predicted_entities": 4, "correct_entities": 1}  # fmt: skip
    assert plain["per_entity_type"]["PER"]["f1"] == 1.0


def test_an_inside_tag_alone_is_an_entity() -> None:
    """seqeval's default mode, as conlleval: I-PER after O begins one. A strict reading would find none."""
    found = score([["B-PER", "O"]], [["I-PER", "O"]], "entity")
    assert found.token_accuracy == 0.5
    assert found.spans is not None
    assert found.spans.f1 == 1.0


def test_no_entity_found_is_no_error(recwarn: pytest.WarningsRecorder) -> None:
    found = score(GOLD, [["O"] * len(tags) for tags in GOLD], "entity")
    assert found.token_accuracy == pytest.approx(5 / 12)
    assert found.spans is not None
    assert (found.spans.f1, found.spans.precision, found.spans.predicted) == (0.0, 0.0, 0)
    assert not recwarn.list


def test_spans_end_with_their_sentence() -> None:
    """I-PER at the start of the next sentence does not go on with the person before."""
    found = score([["B-PER"], ["I-PER", "O"]], [["B-PER"], ["I-PER", "O"]], "chunk")
    assert found.spans is not None
    assert found.spans.gold == 2
    assert "chunk_f1" in found.to_dict()


def test_pos_has_no_spans() -> None:
    found = score([["NN", "VB"], ["NN"]], [["NN", "NN"], ["NN"]])
    assert found.spans is None
    assert found.token_accuracy == pytest.approx(2 / 3)
    assert found.token_macro_f1 == pytest.approx((4 / 5 + 0) / 2)
    assert not any(name.endswith("_f1") and name != "token_macro_f1" for name in found.to_dict())


def test_nothing_to_score() -> None:
    with pytest.raises(InputError, match="no word to score"):
        score([[]], [[]])
    with pytest.raises(ValueError):
        score([["NN"]], [["NN", "NN"]])


def test_floors_know_the_training_words_only(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "train.jsonl", [
        {"tokens": ["the", "can", "can"], "tags": ["DT", "NN", "VB"]},
        {"tokens": ["can", "a"], "tags": ["VB", "DT"]},
        {"tokens": ["rust"], "tags": ["VB"]},
    ])  # fmt: skip
    train = read_file(path, ["pos_tags"])
    found = floors(train, "pos_tags", [["the", "can", "new"]])
    assert found == {"majority_tag": [["VB", "VB", "VB"]], "majority_tag_of_word": [["DT", "VB", "VB"]]}


def test_the_word_floor_solves_what_words_decide(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    train, test = split_of(folder, "train"), split_of(folder, "test")
    gold = test.tags["pos_tags"]
    found = {name: score(gold, tags) for name, tags in floors(train, "pos_tags", test.words).items()}
    assert found["majority_tag_of_word"].token_accuracy == 1.0
    assert found["majority_tag"].token_accuracy < 0.6


def test_tables_show_every_figure() -> None:
    found = score(GOLD, PREDICTED, "entity")
    printed = table({"linear probe": found})
    for text in ("token accuracy", "66.67", "entity F1", "22.22", "25.00", "20.00", "predicted", "right"):
        assert text in printed
    lines = class_table(found).splitlines()
    assert [line.split("|")[1].strip() for line in lines[3:-1]] == ["LOC", "ORG", "PER"]
    assert "entity F1" not in table({"linear probe": score([["NN"]], [["NN"]])})
