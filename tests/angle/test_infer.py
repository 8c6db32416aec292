"""angle/infer.py: texts in, vectors or cosines out."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from angle.encoder import load
from common.errors import InputError
from common.infer_program import read_texts
from common.reading import SHIPPED

TEXTS = ["A man is playing the flute.", "Someone plays a flute.", "Rain fell on the roof."]


def test_cosines_of_a_few_texts(program, llama_folder):
    done = program("angle/infer.py", *TEXTS, "--model_name_or_path", llama_folder, "--device", "cpu")
    assert done.code == 0, done.err
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|")]
    vectors = load(str(llama_folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert [row[1] for row in rows[1:]] == TEXTS
    shown = np.array([[float(cell) for cell in row[2:]] for row in rows[1:]])
    np.testing.assert_allclose(shown, vectors @ vectors.T, atol=6e-4)


def test_vectors_of_a_file(program, llama_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    flags = ["--model_name_or_path", llama_folder, "--device", "cpu", "--prompt", "B", "--dtype", "float32"]
    done = program(
        "angle/infer.py",
        *flags,
        "--file",
        tmp_path / "texts.txt",
        "--output",
        tmp_path / "out.npy",
        "--normalize",
    )
    assert done.code == 0, done.err
    assert "3 x 32" in done.out
    encoder = load(str(llama_folder), device="cpu", dtype="float32", template="B")
    want = encoder.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), want, atol=1e-6)
    done = program("angle/infer.py", *flags, *TEXTS, "--output", tmp_path / "out.jsonl", "--normalize", 1)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    np.testing.assert_allclose([row["embedding"] for row in rows], want, atol=1e-6)


def test_reading(tmp_path):
    rows = read_texts(SHIPPED / "triplets.jsonl", "positive")
    assert len(rows) == 400
    with gzip.open(tmp_path / "t.txt.gz", "wt", encoding="utf-8") as handle:
        handle.write("\ufeffeins\nzwei\n")
    assert read_texts(tmp_path / "t.txt.gz", "text") == ["eins", "zwei"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"one\n\nthree\n", r"a.txt:2: is empty"),
        ("b.txt", b"one\n\xff\n", r"b.txt:2: is not UTF-8"),
        ("c.txt", b"", "holds no text"),
        ("d.jsonl", b'{"txt": "one"}\n', r"d.jsonl:1: no column 'text' \(has txt\); did you mean txt"),
        ("e.jsonl", b'{"text": "one"}\n{"text": 2}\n', r"e.jsonl:2: column 'text' should be text, is int"),
        ("f.jsonl", b'{"text": " "}\n', r"f.jsonl:1: is empty"),
        ("g.pdf", b"", "must end in .txt"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / name, "text")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give texts, or --file"),
        (["hello", "--output", "x.csv"], "must end in .npy or .jsonl"),
        (["hello", "--file", "nowhere.txt"], "and not both"),
        (["--file", "nowhere.txt"], "nowhere.txt: No such file"),
        ([f"text {i}" for i in range(21)], "too many to print"),
        (["hello"], "missing: --model_name_or_path"),
    ],
)
def test_wrong_use_is_one_line(program, words, message):
    done = program("angle/infer.py", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
