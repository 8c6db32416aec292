from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_example import Table, Train, config_file, error_of, notices, train

from common import cli


def test_old_names_are_understood_with_one_notice_each(caplog: pytest.LogCaptureFixture) -> None:
    words = [
        "--w2",
        "35",
        "--w2",
        "30",
        "--maxlen",
        "45",
        "--save_dir",
        "ckpt",
        "--per-device-train-batch-size",
        "16",
    ]
    config = cli.parse(Train, words, aliases={"w2": "ibn_w"})
    assert (config.ibn_w, config.max_length, config.output_dir, config.batch_size) == (
        30.0,
        45,
        Path("ckpt"),
        16,
    )
    assert notices(caplog) == [
        "--w2 is the old name of --ibn_w",
        "--maxlen is the old name of --max_length",
        "--save_dir is the old name of --output_dir",
        "--per_device_train_batch_size is the old name of --batch_size",
    ]


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--model_name", "x"], "model_name_or_path", "x"),
        (["--num_train_epochs", "3"], "epochs", 3),
        (["--evaluation_strategy", "steps"], "eval_strategy", "steps"),
        (["--warmup_ratio", "0.03"], "warmup_steps", 0.03),
        (["--target_modules", "q_proj", "k_proj"], "lora_target_modules", ["q_proj", "k_proj"]),
    ],
)
def test_shared_old_names(words: list[str], name: str, value: object) -> None:
    assert getattr(train(*words), name) == value


def test_a_warm_up_ratio_that_would_be_read_as_steps_is_refused() -> None:
    assert "1.0 is not a ratio" in error_of("--warmup_ratio", "1.0")


def test_an_old_name_that_is_a_field_keeps_its_own_meaning(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Own:
        warmup_ratio: float = 0.0
        warmup_steps: int = 0
        maxlen: int = 1
        group_by_length: bool = False

    config = cli.parse(Own, ["--warmup_ratio", "1.0", "--maxlen", "3", "--group_by_length"])
    assert config == Own(warmup_ratio=1.0, maxlen=3, group_by_length=True)
    assert notices(caplog) == []


def test_old_names_without_their_field_are_unknown() -> None:
    assert "unknown flag --maxlen" in error_of("x", "--maxlen", "3", config=Table)
    assert "unknown flag --overwrite_output_dir" in error_of("x", "--overwrite_output_dir", config=Table)


def test_dropped_names_do_nothing_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    words = [
        "--overwrite_output_dir",
        "--group_by_length",
        "True",
        "--fix_data",
        "1",
        "2",
        "--no_fix_data",
        "--seed",
        "1",
    ]
    assert train(*words, dropped={"fix_data": "data are no longer fixed"}) == Train(Path("out"), seed=1)
    assert notices(caplog) == [
        "--overwrite_output_dir has no effect: transformers 5 has no such setting",
        "--group_by_length has no effect: transformers 5 has no such setting",
        "--fix_data has no effect: data are no longer fixed",
        "--no_fix_data has no effect: data are no longer fixed",
    ]


def test_refused_names_say_what_to_do(tmp_path: Path) -> None:
    refused = {"apply_tdmse": "use --apply_ese"}
    assert error_of("--apply_tdmse", "1", refused=refused) == "--apply_tdmse is not supported: use --apply_ese"
    path = config_file(tmp_path, "apply_tdmse: 1")
    assert error_of("--config", path, refused=refused) == f"{path}: apply_tdmse is not supported: use --apply_ese"


def test_old_values(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "aliases": {"do_eval": "eval_strategy", "start": "bidirectional_from"},
        "values": {
            "do_eval": {"0": "no", "1": "steps"},
            "tasks": {"SICKRelatedness": "SICK-R"},
            "start": lambda text: str(int(text) + 1),
        },
    }
    for words, expected in ((["0"], "no"), (["True"], "steps"), ([], "steps"), (["epoch"], "epoch")):
        assert train("--do_eval", *words, **options).eval_strategy == expected
    assert train("--tasks", "STS12,SICKRelatedness", **options).tasks == ["STS12", "SICK-R"]
    assert "--tasks SICKRelatedness is read as SICK-R" in notices(caplog)
    assert train("--start", "30", **options).bidirectional_from == 31
    path = config_file(tmp_path, "do_eval: true\ntasks: [SICKRelatedness]\nstart: 3\n")
    config = train("--config", path, **options)
    assert (config.eval_strategy, config.tasks, config.bidirectional_from) == ("steps", ["SICK-R"], 4)
    assert f"{path}: do_eval is the old name of eval_strategy" in notices(caplog)


def test_an_alias_must_lead_to_a_field() -> None:
    with pytest.raises(TypeError, match="ibn_v"):
        train(aliases={"w2": "ibn_v"})


def test_a_list_given_twice_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert train("--tasks", "a", "--tasks", "b").tasks == ["b"]
    assert notices(caplog) == ["--tasks is given twice; the last list counts"]


def test_the_commands_of_the_released_readmes(caplog: pytest.LogCaptureFixture) -> None:
    """AnglE's training command and the shape of BGE-ICL's (`--flag True`, bare flags, lists of words)."""
    words = "--save_dir ckpts/NLI-STS-angle-llama-7b --w2 35 --learning_rate 2e-4 --maxlen 45 --batch_size 160"
    words += " --seed 42 --do_eval 0 --load_kbit 4 --epochs 1 --gradient_checkpointing --fp16 --model_name x"
    words += " --target_modules q_proj k_proj v_proj --bf16 False"
    config = cli.parse(
        Train,
        words.split(),
        aliases={"w2": "ibn_w", "do_eval": "eval_strategy"},
        values={"do_eval": {"0": "no", "1": "steps"}},
    )
    expected = Train(Path("ckpts/NLI-STS-angle-llama-7b"), model_name_or_path="x", ibn_w=35.0, learning_rate=2e-4)
    expected = dataclasses.replace(expected, max_length=45, batch_size=160, seed=42, load_kbit=4, fp16=True)
    assert config == dataclasses.replace(expected, bf16=False, lora_target_modules=["q_proj", "k_proj", "v_proj"])
