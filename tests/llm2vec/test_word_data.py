"""Tagged sentences: schemes of chunk tags, splits of folders and of hub data sets, what is refused."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from word_fixtures import rows, split_of, write_data, write_rows

from common.errors import InputError
from llm2vec import word_data
from llm2vec.word_data import is_chunk_tags, read_file, read_split, scheme_of, to_iob2

# Extract of the shared task's paper (Tjong Kim Sang and De Meulder 2003), table 2, and of CoNLL-2000's data page.
ENTITIES_2003 = {
    "train": {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600},
    "validation": {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842},
    "test": {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617},
}
SIZES_2003 = {"train": (14041, 203621), "validation": (3250, 51362), "test": (3453, 46435)}
CHUNKS_2000 = {"train": 106978, "test": 23852}


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("IOB1", "I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC"),
        ("IOB1", "I-PER B-PER I-PER", "B-PER B-PER I-PER"),
        ("IOB1", "O I-PER I-LOC O", "O B-PER B-LOC O"),
        ("IOB2", "B-PER I-PER O B-LOC B-LOC", "B-PER I-PER O B-LOC B-LOC"),
        ("IOBES", "B-PER E-PER S-LOC O S-LOC", "B-PER I-PER B-LOC O B-LOC"),
        ("IOBES", "B-PER I-PER L-PER U-PER", "B-PER I-PER I-PER B-PER"),
    ],
)
def test_chunk_tags_become_iob2(scheme: str, tags: str, expected: str) -> None:
    assert scheme_of([tags.split()]) == scheme
    assert to_iob2(tags.split()) == expected.split()
    assert to_iob2(expected.split()) == expected.split()


tags_of_a_sentence = st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=12)


@settings(deadline=None)  # the first call imports seqeval
@given(tags_of_a_sentence)
def test_the_chunks_stay_the_same(tags: list[str]) -> None:
    """As seqeval, which counts as conlleval, reads them before and after."""
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    found = to_iob2(tags)
    assert get_entities(found) == get_entities(tags)
    assert scheme_of([found]) == "IOB2"
    assert sum(tag[0] == "B" for tag in found) == len(get_entities(tags))


def test_pos_tags_are_no_chunks() -> None:
    assert not is_chunk_tags(["NN", "O", "VB"])
    assert not is_chunk_tags(["O", "O"])
    assert not is_chunk_tags(["-LRB-", "B-NP"])
    assert is_chunk_tags(["O", "B-NP", "I-X-Y"])


def test_a_folder_has_splits(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "conll2003")
    train = split_of(folder, "train", "pos_tags", "ner_tags")
    assert (len(train), len(split_of(folder, "validation")), len(split_of(folder, "test"))) == (200, 20, 60)
    assert train.words == [row["tokens"] for row in rows(200, 0)]
    assert train.tags["pos_tags"] == [row["pos"] for row in rows(200, 0)]
    assert train.schemes == {"pos_tags": "none", "ner_tags": "IOB2"}
    assert train.tokens == sum(map(len, train.words))
    (folder / "test.jsonl").unlink()
    assert read_split(str(folder), "test", ["pos"]) is None


@pytest.mark.parametrize("data_dir", ["", "conll2003"], ids=["parent", "folder"])
def test_a_name_is_looked_up_below_data_dir(tmp_path: Path, data_dir: str) -> None:
    write_data(tmp_path / "conll2003")
    found = read_split("conll2003", "train", ["pos_tags"], data_dir=tmp_path / data_dir)
    assert found is not None
    assert found.source == str(tmp_path / "conll2003" / "train.jsonl")


def test_a_missing_folder_is_never_another_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)
    with pytest.raises(InputError, match=r"--dataset_name conll2003: no train\.jsonl"):
        read_split("conll2003", "train", ["pos_tags"], data_dir=tmp_path)
    monkeypatch.setattr(word_data, "hub_reachable", lambda: False)
    with pytest.raises(InputError, match="the hub does not answer; give --data_dir"):
        read_split("conll2003", "train", ["pos_tags"])


def test_hub_classes_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's columns hold numbers; a data set of the same features, saved as the hub saves them, stands for it."""
    datasets = pytest.importorskip("datasets")
    ner = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(ner),
        }
    )
    data = datasets.Dataset.from_dict({"id": ["0"], "tokens": [["Ann", "Lee", "sat"]], "ner_tags": [[1, 2, 0]]},
                                      features=features)  # fmt: skip
    (tmp_path / "hub").mkdir()
    for split in ("train", "test"):
        data.to_parquet(str(tmp_path / "hub" / f"{split}.parquet"))
    monkeypatch.setattr(word_data, "hub_reachable", lambda: True)
    monkeypatch.setattr(word_data, "HUB", {"conll2003": str(tmp_path / "hub")})
    monkeypatch.delenv("EMBED_DATA", raising=False)
    found = read_split("conll2003", "train", ["ner_tags"])
    assert found is not None
    assert found.tags["ner_tags"] == [["B-PER", "I-PER", "O"]]
    assert read_split("conll2003", "validation", ["ner_tags"]) is None
    with pytest.raises(InputError, match="no column chunk_tags or chunk"):
        read_split("conll2003", "train", ["ner_tags", "chunk_tags"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["X"]}, ":2: 2 words, but 1 tags in 'tags'"),
        ({"tokens": [], "tags": []}, ":2: the words should be a list of texts"),
        ({"tokens": ["a", " "], "tags": ["X", "X"]}, ":2: the words should be a list of texts"),
        ({"tokens": "a b", "tags": ["X", "X"]}, ":2: column 'tokens' should be a list, is str"),
        ({"tokens": ["a"], "tags": [3]}, ":2: the tags in 'tags' should be texts"),
        ({"tokens": ["a"], "label": ["X"]}, ":2: no column pos_tags or pos or tags"),
        ({"text": ["a"], "tags": ["X"]}, ":2: no column tokens or words"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"tokens": ["good"], "tags": ["X"]}, row])
    with pytest.raises(InputError) as error:
        read_file(path, ["pos_tags"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shuffled_tags_are_the_same_tags_elsewhere(tmp_path: Path) -> None:
    train = split_of(write_data(tmp_path), "train")
    mixed = train.shuffled(3)
    flat, other = ([tag for tags in one.tags["pos_tags"] for tag in tags] for one in (train, mixed))
    assert Counter(flat) == Counter(other)
    assert 0.2 < sum(a == b for a, b in zip(flat, other)) / len(flat) < 0.6  # by chance: the sum of squared shares
    assert [len(tags) for tags in mixed.tags["pos_tags"]] == [len(words) for words in mixed.words]
    assert mixed == train.shuffled(3)
    assert mixed.fingerprint != train.fingerprint


def test_the_first_sentences_are_held_out(tmp_path: Path) -> None:
    train = split_of(write_data(tmp_path), "train")
    rest, valid = train.hold_out(5)
    assert (len(rest), len(valid)) == (190, 10)
    assert valid.words + rest.words == train.words
    assert train.head(7).tags["pos_tags"] == train.tags["pos_tags"][:7]
    with pytest.raises(InputError, match="too few to hold out"):
        train.head(1).hold_out(50)


@pytest.mark.shared
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_real_conll2003(shared_data: Path, split: str) -> None:
    """Its files are IOB1; read here they have the official numbers of entities, and the classes of the hub's copy."""
    found = read_split("conll2003", split, ["pos_tags", "ner_tags", "chunk_tags"], data_dir=shared_data)  # type: ignore[arg-type]
    assert found is not None
    assert (len(found), found.tokens) == SIZES_2003[split]
    assert found.schemes == {"pos_tags": "none", "ner_tags": "IOB1", "chunk_tags": "IOB1"}
    starts = Counter(tag[2:] for tags in found.tags["ner_tags"] for tag in tags if tag[0] == "B")
    assert starts == ENTITIES_2003[split]
    classes = {tag for tags in found.tags["ner_tags"] for tag in tags}
    assert classes == {"O", *(f"{place}-{kind}" for place in "BI" for kind in ("PER", "ORG", "LOC", "MISC"))}


@pytest.mark.shared
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_real_conll2000(shared_data: Path, split: str) -> None:
    found = read_split("conll2000", split, ["chunk_tags"], data_dir=shared_data)  # type: ignore[arg-type]
    assert found is not None
    assert found.schemes == {"chunk_tags": "IOB2"}
    assert sum(tag[0] == "B" for tags in found.tags["chunk_tags"] for tag in tags) == CHUNKS_2000[split]
    assert read_split("conll2000", "validation", ["chunk_tags"], data_dir=shared_data) is None


def test_json_rows_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"words": ["New York", "sleeps"], "chunk": ["I-NP", "I-VP"]}]))
    found = read_file(path, ["chunk_tags"])
    assert found.words == [["New York", "sleeps"]]
    assert found.tags["chunk_tags"] == [["B-NP", "B-VP"]]
