"""inbedder/propose.py: from the command line to files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time

import pytest

from inbedder.propose import SUMMARY, ProposeConfig, join_instructions

TEXTS = [
    "I love cat!",
    "I dislike cat!",
    "The bank froze my card.",
    "My card was declined at the bank.",
    "A black cat is sitting near the window.",
    "Interest rates were raised by a quarter of a point.",
    "Two men are playing chess in the park.",
    "The summary doesn't mention it, and it should.",
]
LABELS = ["cat", "cat", "bank", "bank", "cat", "bank", "chess", "text"]
ANIMAL, FEELING = "What is the animal, if any?", "Which feeling is expressed: joy, or anger?"


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": t, "kind": k}) + "\n" for t, k in zip(TEXTS, LABELS)))
    return file


def read_csv(file):
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("name", ["llama", "opt", "roberta"])
def test_it_writes_a_csv_and_a_map_per_instruction_and_one_summary(name, folders, texts, tmp_path, program):
    output = tmp_path / "out"
    words = ["--model", folders[name], "--texts", texts, "--text_column", "body", "--dtype", "float32"]
    done = program(
        "inbedder/propose.py", *words, "--instruction", ANIMAL, "--instruction", FEELING, "--clusters", 3,
        "--labels", "kind", "--output", output,
    )  # fmt: skip
    assert done.code == 0, done.err
    first, second = "1-what-is-the-animal-if-any", "2-which-feeling-is-expressed-joy-or-anger"
    files = [f"{stem}.{end}" for stem in (first, second) for end in ("csv", "png")]
    assert sorted(file.name for file in output.iterdir()) == sorted([*files, SUMMARY])
    rows = read_csv(output / f"{first}.csv")
    assert [row["text"] for row in rows] == TEXTS
    assert {row["cluster"] for row in rows} == {"1", "2", "3"}
    assert any(row["answer"] for row in rows)
    summary = (output / SUMMARY).read_text("utf-8")
    assert all(f"({file})" in summary for file in files)
    assert summary.count("V-measure against kind") == 2
    assert "adjusted Rand index" in done.out
    assert str(output / SUMMARY) in done.out


def test_without_answers_nothing_is_generated(folders, texts, tmp_path, program, monkeypatch):
    monkeypatch.setattr("inbedder.causal.generate", None)
    done = program(
        "inbedder/propose.py", "--model", folders["llama"], "--texts", texts, "--text_column", "body", "--instruction",
        ANIMAL, FEELING, "--clusters", 2, "--answers", "0", "--output", tmp_path / "out", "--limit", 5,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = read_csv(tmp_path / "out" / "1-what-is-the-animal-if-any.csv")
    assert len(rows) == 5
    assert not any(row["answer"] for row in rows)
    assert [row["text"] for row in rows] == [text for text in TEXTS if text in {row["text"] for row in rows}]


def test_a_released_configuration(folders, texts, tmp_path, program, caplog):
    """The keys of propose_configs/causallm_llama-2-7b-qa-feedback-reason.json, on a small model and file."""
    config = {
        "model_type": "causal",
        "model_path": str(folders["llama"]),
        "model_id": "Llama-2-7b-hf-qa-ml=20",
        "max_input_length": 128,
        "dtype": "float32",
        "seed": 42,
        "use_flash_attention_2": True,
        "generation_configs": {"temperature": 0.6, "top_p": 0.9, "max_new_tokens": 4, "do_sample": True},
        "batch_size": 64,
        "disable_instruction": False,
        "pattern": "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:",
        "data_path": str(texts),
        "instruction": "Here is a text. Categorize it, please, by its subject.",
        "instruct_id": "text-subject",
        "output_value": "fst_gen_layer_2",
        "n_clusters": 3,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = program(
        "inbedder/propose.py", tmp_path / "config.json", "--text_column", "body", "--output", tmp_path / "out"
    )
    assert done.code == 0, done.err
    assert config["instruction"] in (tmp_path / "out" / SUMMARY).read_text("utf-8")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "1-text-subject.csv",
        "1-text-subject.png",
        SUMMARY,
    ]
    config |= {"model_type": "masked"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = program("inbedder/propose.py", tmp_path / "config.json", "--text_column", "body")
    assert done.code == 2
    assert "--model_type masked" in done.err.splitlines()[-1]
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "seq2seq"}))
    done = program("inbedder/propose.py", tmp_path / "config.json", "--text_column", "body")
    assert (done.code, "seq2seq" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clusters", 9], "--clusters 9: "),
        (["--clusters", 0], "--clusters 0: must be at least 1"),
        (["--instruction", ANIMAL], "given twice"),
        (["--instruction", " "], "is empty"),
        (["--text_column", "bdy"], "no column 'bdy'"),
        (["--labels", "knd"], "no column 'knd'"),
        (["--labels", "kind", "body", "kind"], "--labels: 3 for 1 instruction"),
        (["--texts", "nowhere.txt"], "nowhere.txt: No such file"),
        (["--generation_configs", '{"max_tokens": 3}'], "max_tokens is not known; did you mean max_new_tokens"),
        (["--generation_configs", '{"num_beams": 4}'], "num_beams 4"),
        (["--max_new_tokens", 0], "--max_new_tokens 0: must be at least 1"),
        (["--mode", "frist"], "did you mean 'first'"),
        (["--mode", "fst_gen_layer_9"], "layer 9; the model has 0 to 3"),
        (["--mode", "re_encode"], "--mode re_encode: "),
        (["--layer", -2], "--layer -2"),
        (["--prompt", "Summarize {text}:"], "--prompt 'Summarize {text}:': needs {instruction}"),
        (["--map", "umap"], "umap"),
    ],
)
def test_wrong_use_is_one_line(words, message, folders, texts, tmp_path, program):
    given = ["--model", folders["llama"], "--texts", texts, "--text_column", "body", "--clusters", 2]
    done = program("inbedder/propose.py", *given, "--instruction", ANIMAL, "--output", tmp_path / "out", *words)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if ": error: " in line]  # beside notices of what was loaded
    assert lines == done.err.splitlines()[-1:]
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_instructions_may_hold_commas_and_brackets():
    words = ["--instruction", "a, b", "--clusters", "2", "--instruction=[c]", "--x", "--instruction", "d", "e"]
    rest = join_instructions(words)
    assert rest[:3] == ["--clusters", "2", "--x"]
    assert json.loads(rest[3].removeprefix("--instruction=")) == ["a, b", "[c]", "d", "e"]
    assert join_instructions(["--help"]) == ["--help"]
    for given, want in (
        ("a, b", ["a, b"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("[c]", ["[c]"]),
        (["a", "b"], ["a", "b"]),
    ):
        assert ProposeConfig(texts="a.txt", instruction=given, clusters=2).questions == want


def test_help_and_wrong_flags_answer_at_once():
    for words, code in ((["--help"], 0), (["--cluster_count", "3"], 2), (["--texts", "a.txt"], 2)):
        started = time.perf_counter()
        code_ = "import sys; import inbedder.propose as p; import common.cli as c\n"
        code_ += "try: c.run(p.propose, p.ProposeConfig, p.join_instructions(sys.argv[1:]), **p.OPTIONS)\n"
        code_ += "finally: print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code_, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stdout.rstrip().endswith("False")
        assert time.perf_counter() - started < 10
