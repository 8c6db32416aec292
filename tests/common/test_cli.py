from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_example import Schedule, Table, Train, error_of, train, unhurried
from hypothesis import given
from hypothesis import strategies as st

from common import cli

# ------------------------------ flags


def test_defaults() -> None:
    assert train() == Train(output_dir=Path("out"))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--learning_rate", "2e-4"], "learning_rate", 2e-4),
        (["--learning-rate=2e-4"], "learning_rate", 2e-4),
        (["--learning_rate", "-1e-5"], "learning_rate", -1e-5),
        (["--max_length", "1e3"], "max_length", 1000),
        (["--seed", "-1"], "seed", -1),
        (["--seed", "9007199254740993"], "seed", 9007199254740993),
        (["--seed", "none"], "seed", None),
        (["--prompt", "None"], "prompt", None),
        (
            ["--prompt", 'Summarize sentence "{text}" in one word:"'],
            "prompt",
            'Summarize sentence "{text}" in one word:"',
        ),
        (["--prompt", "- {text}"], "prompt", "- {text}"),
        (["--prompt", "--query: {text}"], "prompt", "--query: {text}"),
        (["--prompt=--seed"], "prompt", "--seed"),
        (["--prompt="], "prompt", ""),
        (["--prompt", "a=b"], "prompt", "a=b"),
        (["--model_name_or_path", "none"], "model_name_or_path", "none"),
        (["--load_kbit", "4"], "load_kbit", 4),
        (["--load_kbit", "null"], "load_kbit", None),
        (["--eval_strategy", "no"], "eval_strategy", "no"),
        (["--save_steps", "0.1"], "save_steps", 0.1),
        (["--bidirectional_from", "31"], "bidirectional_from", 31),
        (["--bidirectional_from", "all"], "bidirectional_from", "all"),
        (["--tasks", "STS12", "STS16"], "tasks", ["STS12", "STS16"]),
        (["--tasks", "STS12,STS16"], "tasks", ["STS12", "STS16"]),
        (["--tasks", "STS12,", "STS16", "--seed", "1"], "tasks", ["STS12", "STS16"]),
        (["--tasks=STS12"], "tasks", ["STS12"]),
        (["--tasks="], "tasks", []),
        (["--tasks", '["a, b", "c"]'], "tasks", ["a, b", "c"]),
        (["--tasks", "[MASK]"], "tasks", ["[MASK]"]),
        (["--lora_target_modules", "q_proj", "v_proj"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--lora_target_modules", "none"], "lora_target_modules", None),
        (["--layers", "1,2", "3"], "layers", (1, 2, 3)),
        (["--split", "12"], "split", 12),
        (["--split", "12a"], "split", "12a"),
        (["--betas", "0.9", "0.95"], "betas", (0.9, 0.95)),
        (["--files", "a", "b/c"], "files", [Path("a"), Path("b/c")]),
        (["--output_dir", "~/x"], "output_dir", Path.home() / "x"),
        (["--schedule", "cosine"], "schedule", Schedule.COSINE),
        (["--model_kwargs", '{"a": [1, null]}'], "model_kwargs", {"a": [1, None]}),
        (["--seed", "1", "--seed", "2"], "seed", 2),
        (["--local-rank=3"], "seed", None),
        (["--local_rank", "3", "--seed", "1"], "seed", 1),
    ],
)
def test_values_of_flags(words: list[str], name: str, value: object) -> None:
    config = train(*words)
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "x"], '--seed: "x" is not a whole number'),
        (["--seed", "1.5"], '--seed: "1.5" is not a whole number'),
        (["--max_length", "none"], '--max_length: "none" is not a whole number'),
        (["--max_length", "1e999"], "is not a whole number"),
        (["--learning_rate", "fast"], '--learning_rate: "fast" is not a number'),
        (["--learning_rate", "nan"], "is not a finite number"),
        (["--learning_rate="], '--learning_rate: "" is not a number'),
        (["--load_kbit", "5"], '--load_kbit: "5" is not one of 4, 8, 16'),
        (["--eval_strategy", "step"], '--eval_strategy: "step" is not one of no, steps, epoch'),
        (["--schedule", "sine"], '"sine" is not one of linear, cosine'),
        (["--betas", "0.9"], "--betas: 1 values where 2 are due"),
        (["--layers", "1", "x"], '--layers: "x" is not a whole number'),
        (["--model_kwargs", "{a: 1}"], '--model_kwargs: "{a: 1}" is not JSON'),
        (["--model_kwargs", "[1]"], "is not a JSON object"),
        (["--output_dir", ""], "--output_dir: the path is empty"),
        (["--seed"], "--seed needs a value"),
        (
            ["--prompt", "--seed", "1"],
            "--prompt needs a value (give one that begins with -- as --prompt=VALUE)",
        ),
        (["--tasks", "--seed", "1"], "--tasks needs a value"),
        (["--config"], "--config needs a file"),
        (["--lerning_rate", "1"], "unknown flag --lerning_rate (did you mean --learning_rate?)"),
        (["--learning"], "unknown flag --learning (did you mean --learning_rate?)"),
        (["--model", "x"], "unknown flag --model (did you mean --model_name_or_path?)"),
        (["--fp", "1"], "unknown flag --fp (did you mean --fp16?)"),
        (["-learning_rate", "1"], "unknown flag -learning_rate (did you mean --learning_rate?)"),
        (["--xyzzy=3", "--fb16"], "unknown flag --xyzzy, flag --fb16 (did you mean --fp16?)"),
        (["--no_seed"], "unknown flag --no_seed"),
        (["stray"], "unexpected 'stray'"),
        (["--seed", "1", "2"], "unexpected '2'"),
    ],
)
def test_wrong_flags_are_refused_by_name(words: list[str], message: str) -> None:
    assert message in error_of(*words)


def test_missing_flags_are_all_named() -> None:
    @dataclass
    class Two:
        output_dir: Path
        train_name_or_path: str
        seed: int = 1

    assert error_of("--seed", "1", config=Two).startswith("missing: --output_dir, --train_name_or_path (")


# ------------------------------ booleans

WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
spelling = st.sampled_from([str.lower, str.upper, str.title])


@unhurried
@given(
    word=st.sampled_from(sorted(WORDS)),
    spell=spelling,
    name=st.sampled_from(["fp16", "bf16"]),
    joined=st.booleans(),
)
def test_boolean_words(word: str, spell: Any, name: str, joined: bool) -> None:
    text = spell(word)
    config = train(*([f"--{name}={text}"] if joined else [f"--{name}", text]))
    assert getattr(config, name) is WORDS[word]


@unhurried
@given(st.text().filter(lambda text: text.lower() not in WORDS) | st.sampled_from(["t", "y", "on", "off", "2"]))
def test_other_words_are_no_booleans(text: str) -> None:
    assert "--fp16: " in error_of(f"--fp16={text}")


def test_boolean_switches() -> None:
    assert train("--fp16").fp16 is True
    assert train("--fp16", "--seed", "1").fp16 is True
    assert train("--no_gradient_checkpointing").gradient_checkpointing is False
    assert train("--no-gradient-checkpointing").gradient_checkpointing is False
    assert train("--no-bf16").bf16 is False
    assert train("--bf16", "none").bf16 is None
    assert train("--fp16", "--no_fp16").fp16 is False
    assert "takes no value" in error_of("--no_fp16=1")
    assert "unexpected '1'" in error_of("--no_fp16", "1")
    assert "is not a boolean" in error_of("--fp16", "2")


# ------------------------------ arguments by place


def test_arguments_by_place() -> None:
    words = ["angle-sts", "--fresh", "a,b", "--limit", "3", "c.json", "--", "--d"]
    assert cli.parse(Table, words) == Table("angle-sts", ["a,b", "c.json", "--d"], fresh=True, limit=3)
    assert cli.parse(Table, ["--fresh", "0", "x.yaml"]) == Table("x.yaml", [], fresh=False)
    assert cli.parse(Table, ["angle.yaml", "b.json"]) == Table("angle.yaml", ["b.json"])
    assert error_of("--limit", "3", config=Table).startswith("missing: NAME")


# ------------------------------ help


def test_help_shows_groups_defaults_and_old_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(Train, ["--nonsense", "--help"], prog="angle/train.py", description="Train with 100% of it.")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: angle/train.py [CONFIG.yaml] --output_dir PATH [--flag value ...]",
        "Train with 100% of it.",
        "saving: --output_dir PATH where 100% of it goes (required)",
        "--prompt TEXT template with {text} (default: none)",
        "--fp16, --no_fp16 (default: 0)",
        "--load_kbit {4,8,16} (default: none)",
        "--bidirectional_from INT|{all} (default: all)",
        "--tasks TEXT ... (default: STS12 STS13)",
        "--schedule {linear,cosine} (default: linear)",
        "--maxlen (--max_length)",
        "accepted without effect: --do_train",
        "exit codes: 0 good, 1 a comparison failed, 2 wrong use",
    ):
        assert part in text


def test_help_of_arguments_by_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(Table, ["-h"], prog="table")
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: table NAME RESULTS ... [--flag value ...]" in text
    assert "arguments: NAME which table (required)" in text
