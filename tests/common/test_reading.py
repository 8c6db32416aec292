from __future__ import annotations

import csv
import gzip
import io as stdlib_io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.io import read_json, read_rows

ROWS = [{"text": 'Grüße, "du"\u2028\u0085\x1c end', "label": 0.5}, {"text": "二", "label": None}]

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# what a JSON string can hold and a tokenizer can take: all but surrogates
texts = st.text(st.characters(exclude_categories=["Cs"]))
rows = st.lists(st.dictionaries(texts, texts | st.integers() | st.none() | st.lists(texts)), min_size=1, max_size=5)


def write(path: Path, data: str | bytes) -> Path:
    data = data.encode("utf-8") if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(read_rows(path))


# ------------------------------ formats


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_json_lines(tmp_path: Path, zipped: str) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path = write(tmp_path / f"a.jsonl{zipped}", f"\ufeff{lines[0]}\r\n\n  \n{lines[1]}")
    assert read(path) == [(1, ROWS[0]), (4, ROWS[1])]


@unhurried
@given(rows=rows, ascii_only=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_json_lines_of_any_text(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, ascii_only: bool, end: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write(path, "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows))
    assert [row for _, row in read(path)] == rows


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_json_list(tmp_path: Path, zipped: str) -> None:
    path = write(tmp_path / f"a.json{zipped}", "\ufeff" + json.dumps(ROWS, indent=1))
    assert read(path) == [(1, ROWS[0]), (2, ROWS[1])]


def test_json_that_holds_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '\n{"a": 1}\n{"a": 2}\n')
    assert read(path) == [(2, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_csv_with_quotes_and_line_breaks(tmp_path: Path, zipped: str) -> None:
    text = 'text1,text2,label\r\n"a ""b"", c","two\nlines",5\r\n\r\nx\u2028y,,0\r\n'
    path = write(tmp_path / f"a.csv{zipped}", "\ufeff" + text)
    first = {"text1": 'a "b", c', "text2": "two\nlines", "label": "5"}
    assert read(path) == [(2, first), (5, {"text1": "x\u2028y", "text2": "", "label": "0"})]


@unhurried
@given(st.lists(st.tuples(texts, texts), min_size=1))
def test_csv_of_any_text(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    buffer = stdlib_io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *pairs])
    path = write(tmp_path_factory.mktemp("rows") / "a.csv", buffer.getvalue())
    assert [(row["a"], row["b"]) for _, row in read(path)] == pairs


def test_csv_with_a_long_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n" + "word " * 100_000 + ",1\n")
    assert len(read(path)[0][1]["text"]) == 500_000


@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_tsv_has_no_quoting(tmp_path: Path, zipped: str) -> None:
    path = write(tmp_path / f"a.tsv{zipped}", 'text1\ttext2\n"open quote\tsay "x"\r\n\n y \t\n')
    assert read(path) == [
        (2, {"text1": '"open quote', "text2": 'say "x"'}),
        (4, {"text1": " y ", "text2": ""}),
    ]


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"query": ["a", "b"], "positive": [["x"], ["y", "z"]], "n": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        (1, {"query": "a", "positive": ["x"], "n": 1}),
        (2, {"query": "b", "positive": ["y", "z"], "n": 2}),
    ]


def test_real_data_is_read_as_pandas_reads_it(shared_data: Path) -> None:
    files = [file for file in sorted(shared_data.glob("st*/**/*.jsonl.gz")) if file.stat().st_size < 2_000_000]
    assert files
    for file in files:
        frame = pd.read_json(file, lines=True, dtype=False, convert_dates=False)
        mine = read(file)
        assert len(mine) == len(frame)
        assert list(mine[0][1]) == list(frame.columns)


def test_rows_come_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as handle:
        for _ in range(200):
            handle.write(json.dumps({"text": "x" * 100_000}) + "\n")
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # of 20 million characters


# ------------------------------ errors


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": 1,}\n', "a.jsonl:3: not JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "a.jsonl:2: a list where an object is due"),
        ("a.jsonl", '{"a": 1}\n"x"\n', "a.jsonl:2: a string where"),
        ("a.jsonl", "7\n", "a.jsonl:1: a number where"),
        ("a.jsonl", '{"label": NaN}\n', "a.jsonl:1: NaN is not JSON"),
        ("a.jsonl", '{"a": 1}\n{"a": "\\ud83d"}\n', "a.jsonl:2: half of a surrogate pair"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "a.jsonl:2: not UTF-8 (byte 0xe9)"),
        ("a.jsonl.gz", '{"a": 1}\n{"a": 1\n', "a.jsonl.gz:2: not JSON"),
        ("a.jsonl", "[" * 200_000 + "\n", "a.jsonl:1: "),
        ("a.jsonl", "", "a.jsonl holds no rows"),
        ("a.jsonl", "\ufeff\n \n", "a.jsonl holds no rows"),
        ("a.json", "[]", "a.json holds no rows"),
        ("a.json", "", "a.json:1: not JSON"),
        ("a.json", '[{"a": 1}, 3]', "a.json: row 2: a number where an object is due"),
        ("a.json", '[\n{"a": 1},\n{"a": }\n]', "a.json:3: not JSON"),
        ("a.json", '{\n"data": [{"a": 1}]\n}', "a.json holds one object; a list of objects is due"),
        ("a.json", b'[\n{"a": "\xe9"}]', "a.json:2: not UTF-8"),
        ("a.csv", "", "a.csv holds no rows"),
        ("a.csv", "text,label\n", "a.csv holds no rows"),
        ("a.csv", "text,text\nx,1\n", "a.csv:1: the header names column 'text' twice"),
        ("a.csv", ",text\n0,x\n", "a.csv:1: column 1 of the header has no name; write it without the index"),
        ("a.csv", 'text,label\n"x\ny",1\nx,y,2\n', "a.csv:4: 3 columns, but the header has 2"),
        ("a.csv", 'text,label\nx,1\n"open,2\n\n', "a.csv:3: not CSV"),
        ("a.csv", b"text,label\nx,1\n\xff,2\n", "a.csv:3: not UTF-8"),
        ("a.tsv", "text\tlabel\n\nx\n", "a.tsv:3: 1 columns, but the header has 2"),
        ("a.parquet", "PAR1 no", "a.parquet: not a whole Parquet file"),
        ("a.txt", "x", ".txt is none of .jsonl, .json, .csv, .tsv, .parquet"),
        ("a", "x", "a name without a suffix is none of"),
        ("a.parquet.gz", "x", ".parquet is none of"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_before_a_bad_one_are_given(tmp_path: Path) -> None:
    found = read_rows(write(tmp_path / "a.jsonl", '{"a": 1}\n{"a"\n'))
    assert next(found) == (1, {"a": 1})
    with pytest.raises(InputError):
        next(found)


def test_a_cut_archive_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"a": "%x"}\n' % (n * 7919 % 10007) for n in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a.jsonl.gz: not a whole gzip file, after line \d\d+"):
        read(path)
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match="not a whole gzip file, after line 0"):
        read(path)


def test_a_cut_parquet_file_is_an_error(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(1000)}).to_parquet(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"b.parquet: not a whole Parquet file"):
        read(tmp_path / "b.parquet")
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"c.parquet holds no rows"):
        read(tmp_path / "c.parquet")


def test_missing_files_are_found_out_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_rows(tmp_path / "a.jsonl")
    assert caught.value.filename == str(tmp_path / "a.jsonl")
    with pytest.raises(InputError):
        read_rows(tmp_path / "a.doc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n "a": 1,\n}', "a.json:3: not JSON"),
        ("", "a.json:1: not JSON: Expecting value, column 1 (the file is empty)"),
        (b'{\n"a": "\xff"}', "a.json:2: not UTF-8"),
        ('{"a": Infinity}', "a.json:1: Infinity is not JSON"),
    ],
)
def test_json_errors_name_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_json(write(tmp_path / "a.json", content))
    assert message in str(caught.value)


def test_json_may_be_zipped_and_begin_with_a_mark(tmp_path: Path) -> None:
    assert read_json(write(tmp_path / "a.json.gz", '\ufeff{"a": [1]}')) == {"a": [1]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")


def test_importing_the_readers_loads_no_heavy_library() -> None:
    check = "import sys, common.io; print(*{'torch', 'numpy', 'pyarrow', 'pandas', 'yaml'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == ""
