"""The two folder layouts give the same tasks; what is wrong in them is an error with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from senteval import SUBSETS, TASKS, SentEvalError, load_suite, load_task


@pytest.mark.parametrize("zipped", [True, False])
def test_both_layouts_give_the_same_tasks(tmp_path, collection, write_jsonl, write_senteval, zipped):
    ours = load_suite("senteval", write_jsonl(tmp_path / "jsonl", collection, zipped))
    theirs = load_suite("senteval", write_senteval(tmp_path / "original", collection))
    assert list(ours) == list(theirs) == list(TASKS)
    for name in TASKS:
        assert ours[name].text1 == theirs[name].text1
        assert ours[name].gold.tolist() == theirs[name].gold.tolist()
        assert ours[name].fingerprint == theirs[name].fingerprint
        assert ours[name].subsets == (tuple(SUBSETS[name]) or ("all",))
        assert str(tmp_path) in ours[name].source
        assert ours[name].source != theirs[name].source


def test_texts_and_grades_are_those_of_the_file(tmp_path, collection, write_jsonl):
    folder = write_jsonl(tmp_path, collection)
    rows = collection["stsbenchmark/test"]
    tokenised, raw = (load_task("STSBenchmark", protocol, folder) for protocol in ("senteval", "mteb"))
    assert tokenised.text1 == [row["s1"] for row in rows]
    assert tokenised.text2 == [row["s2"] for row in rows]
    assert raw.text1 == [row["s1_raw"] for row in rows]
    assert raw.text2 == [row["s2_raw"] for row in rows]
    assert tokenised.gold.tolist() == raw.gold.tolist() == [row["score"] for row in rows]
    assert tokenised.fingerprint != raw.fingerprint


@pytest.mark.parametrize("protocol", ["senteval", "mteb"])
def test_sts12_to_16_are_tokenised_in_both_protocols(tmp_path, collection, write_jsonl, protocol):
    folder = write_jsonl(tmp_path, collection)
    for name in TASKS[:5]:
        task = load_task(name, protocol, folder)
        assert task.text1 == [row["s1"] for row in collection[f"sts12-16/{name}"]]
        assert task.text2 == [row["s2"] for row in collection[f"sts12-16/{name}"]]


def test_sick_is_the_test_part_or_all_three(tmp_path, collection, write_jsonl):
    folder = write_jsonl(tmp_path, collection)
    parts = [row for part in ("train", "trial", "test") for row in collection[f"sick/{part}"]]
    assert load_task("SICK-R", "senteval", folder).text1 == [row["s1"] for row in collection["sick/test"]]
    assert load_task("SICK-R", "mteb", folder).text1 == [row["s1_raw"] for row in parts]
    (folder / "sick" / "trial.jsonl.gz").unlink()
    assert len(load_task("SICK-R", "senteval", folder)) == 4
    with pytest.raises(SentEvalError, match=r"sick/trial\.jsonl\(\.gz\) is missing; SICK-R in the mteb"):
        load_task("SICK-R", "mteb", folder)


def test_short_subset_names_of_sts12_are_the_official_ones(tmp_path, collection, write_jsonl):
    for row in collection["sts12-16/STS12"]:
        row["subset"] = row["subset"].removeprefix("surprise.")
    assert load_task("STS12", "senteval", write_jsonl(tmp_path, collection)).subsets == tuple(SUBSETS["STS12"])


def test_white_space_is_collapsed_in_the_senteval_protocol_only(tmp_path, collection, write_jsonl):
    row = collection["stsbenchmark/test"][0]
    row["s1"], row["s1_raw"] = " two\u00a0 blanks . ", " Two  blanks. "
    folder = write_jsonl(tmp_path, collection)
    assert load_task("STS-B", "senteval", folder).text1[0] == "two blanks ."
    assert load_task("STS-B", "mteb", folder).text1[0] == " Two  blanks. "


def test_downstream_below_the_folder_is_found(tmp_path, collection, write_senteval):
    write_senteval(tmp_path / "downstream", collection)
    assert len(load_task("STS13", "senteval", tmp_path)) == 12
    assert len(load_task("SICK-R", "senteval", tmp_path)) == 4


def test_senteval_files_serve_mteb_where_its_text_is_theirs(tmp_path, collection, write_senteval):
    folder = write_senteval(tmp_path, collection)
    for name in TASKS[:5]:
        assert load_task(name, "mteb", folder).text1 == load_task(name, "senteval", folder).text1
    for name in TASKS[5:]:
        with pytest.raises(SentEvalError, match=r"tokenised text.*mteb.*--data_dir"):
            load_task(name, "mteb", folder)


def test_pairs_without_a_grade_are_dropped(tmp_path, collection, write_jsonl, write_senteval):
    original = write_senteval(tmp_path / "original", collection) / "STS" / "STS16-en-test"
    grades = original / "STS.gs.headlines.txt"
    lines = grades.read_text().split("\n")
    lines[1] = lines[3] = ""  # the last one too: its empty line must not be taken for the end of the file
    grades.write_text("\n".join(lines))
    collection["sts12-16/STS16"][5]["score"] = None
    collection["sts12-16/STS16"][7]["score"] = ""
    task = load_task("STS16", "senteval", tmp_path / "original")
    kept = [row["s1"] for i, row in enumerate(collection["sts12-16/STS16"]) if i not in (5, 7)]
    assert task.text1 == kept
    assert task.fingerprint == load_task("STS16", "senteval", write_jsonl(tmp_path / "jsonl", collection)).fingerprint


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path, collection, write_senteval):
    path = write_senteval(tmp_path, collection) / "STS" / "STS13-en-test" / "STS.input.FNWN.txt"
    text = path.read_text(encoding="utf-8").replace(" .\t", " \u2028 .\t", 1).replace("\n", "\r\n")
    path.write_bytes(text.encode())
    task = load_task("STS13", "senteval", tmp_path)
    assert task.text2 == [row["s2"] for row in collection["sts12-16/STS13"]]


BAD_RECORDS = [
    ({"score": "high"}, "the grade is not a number: 'high'"),
    ({"score": True}, "the grade is not a number: True"),
    ({"score": 5.5}, "the grade is not between 0 and 5: 5.5"),
    ({"score": float("nan")}, "the grade is not between 0 and 5: nan"),
    ({"s2": ""}, "a text is empty or not a string: ''"),
    ({"s1": None}, "a text is empty or not a string: None"),
    ({"subset": "SMT"}, "'SMT' is no subset of STS13"),
]


@pytest.mark.parametrize(("change", "message"), BAD_RECORDS)
def test_a_bad_record_is_an_error_with_file_and_line(tmp_path, collection, write_jsonl, change, message):
    collection["sts12-16/STS13"][2].update(change)
    write_jsonl(tmp_path, collection)
    with pytest.raises(SentEvalError) as caught:
        load_task("STS13", "senteval", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'sts12-16' / 'STS13.jsonl.gz'}, line 3: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "name", "field", "first"),
    [
        *(("sts12-16/STS15", "STS15", field, "s1") for field in ("s1", "s2", "score", "subset")),
        *(("stsbenchmark/test", "STSBenchmark", field, "s1_raw") for field in ("s1_raw", "s2_raw", "score")),
    ],
)
def test_a_missing_field_is_named(tmp_path, collection, write_jsonl, stem, name, field, first):
    del collection[stem][1][field]
    told = rf"line 2: no field '{field}'; {name} in the mteb protocol reads {first}, "
    with pytest.raises(SentEvalError, match=told):
        load_task(name, "mteb", write_jsonl(tmp_path, collection))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"s1": ', "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"s1": "\xff"}', "not UTF-8"),
    ],
)
def test_a_broken_line_is_an_error_with_its_number(tmp_path, collection, write_jsonl, line, message):
    path = write_jsonl(tmp_path, collection, False) / "stsbenchmark" / "test.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(SentEvalError, match=rf"test\.jsonl, line 5: {message}"):
        load_task("STSBenchmark", "senteval", tmp_path)


def test_a_truncated_download_is_an_error(tmp_path, collection, write_jsonl):
    path = write_jsonl(tmp_path, collection) / "sts12-16" / "STS12.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SentEvalError, match=r"STS12\.jsonl\.gz can't be read .*fetch it again"):
        load_task("STS12", "senteval", tmp_path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(SentEvalError, match="no graded pair of MSRpar, MSRvid"):
        load_task("STS12", "senteval", tmp_path)


def test_a_missing_subset_is_an_error(tmp_path, collection, write_jsonl, write_senteval):
    collection["sts12-16/STS14"] = [row for row in collection["sts12-16/STS14"] if row["subset"] != "tweet-news"]
    with pytest.raises(SentEvalError, match="STS14: no graded pair of tweet-news"):
        load_task("STS14", "senteval", write_jsonl(tmp_path / "jsonl", collection))
    original = write_senteval(tmp_path / "original", collection)
    (original / "STS" / "STS14-en-test" / "STS.gs.images.txt").unlink()
    with pytest.raises(SentEvalError, match=r"STS\.gs\.images\.txt is missing; check --data_dir"):
        load_task("STS14", "senteval", original)


def break_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[number - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "file", "line", "text", "message"),
    [
        ("STS15", "STS/STS15-en-test/STS.input.belief.txt", 2, "no tab here", "no tab between two texts"),
        (
            "STS15",
            "STS/STS15-en-test/STS.gs.belief.txt",
            3,
            "4,5",
            "the grade is not a number: '4,5'",
        ),
        ("STSBenchmark", "STS/STSBenchmark/sts-test.csv", 4, "a\tb\tc", "3 tab-separated columns, expected"),
        (
            "SICK-R",
            "SICK/SICK_test_annotated.txt",
            2,
            "1\ta dog\ta cat\t9\tNEUTRAL",
            "the grade is not between",
        ),
    ],
)
def test_a_bad_senteval_line_is_an_error_with_file_and_line(
    tmp_path, collection, write_senteval, name, file, line, text, message
):
    write_senteval(tmp_path, collection)
    break_line(tmp_path / file, line, text)
    with pytest.raises(SentEvalError) as caught:
        load_task(name, "senteval", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}, line {line}: {message}")


def test_texts_and_grades_of_different_length_are_an_error(tmp_path, collection, write_senteval):
    write_senteval(tmp_path, collection)
    path = tmp_path / "STS" / "STS13-en-test" / "STS.gs.OnWN.txt"
    path.write_text(path.read_text() + "3.0\n")
    with pytest.raises(SentEvalError, match=r"STS\.input\.OnWN\.txt has 4 lines but STS\.gs\.OnWN\.txt has 5"):
        load_task("STS13", "senteval", tmp_path)


def test_missing_data_names_the_file_the_flag_and_what_to_do(tmp_path):
    with pytest.raises(SentEvalError, match=r"--data_dir .*nowhere is not a folder"):
        load_task("STS12", "senteval", tmp_path / "nowhere")
    with pytest.raises(SentEvalError, match=r"sts12-16/STS12.*--data_dir.*scripts/download_data\.sh"):
        load_task("STS12", "senteval", tmp_path)
    with pytest.raises(SentEvalError, match=r"sick/train.*--data_dir.*leave it out to read the hub"):
        load_task("SICK-R", "mteb", tmp_path)
