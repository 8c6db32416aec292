from __future__ import annotations

import dataclasses
import enum
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import cli
from common.errors import InputError

REPO = Path(__file__).resolve().parents[2]


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Schedule(enum.Enum):
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass
class Train:
    """A training program's configuration with every kind of field."""

    output_dir: Path = field(metadata={"help": "where 100% of it goes", "group": "saving"})
    model_name_or_path: str = "smollm2-135m"
    prompt: str | None = field(default=None, metadata={"help": "template with {text}"})
    learning_rate: float = 1e-5
    max_length: int = 512
    epochs: int = 1
    batch_size: int = 32
    ibn_w: float = 1.0
    fp16: bool = False
    gradient_checkpointing: bool = True
    bf16: Optional[bool] = None  # noqa: UP045 (the old spelling must work too)
    seed: Union[int, None] = None  # noqa: UP007
    load_kbit: Literal[4, 8, 16] | None = None
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    warmup_steps: float = 0.0
    save_steps: float | None = None
    bidirectional_from: int | Literal["all"] = "all"
    tasks: list[str] = field(default_factory=lambda: ["STS12", "STS13"])
    lora_target_modules: list[str] | None = None
    layers: tuple[int, ...] = ()
    split: int | str = "train"
    betas: tuple[float, float] = (0.9, 0.999)
    files: list[Path] = field(default_factory=list)
    schedule: Schedule = Schedule.LINEAR
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    dry_run: bool = field(default=False, metadata={"recipe": False})


@dataclass
class Table:
    """A program with arguments given by place."""

    name: str = field(metadata={"positional": True, "help": "which table"})
    results: list[str] = field(default_factory=list, metadata={"positional": True})
    fresh: bool = False
    limit: int | None = None


def train(*words: str, **options: Any) -> Train:
    return cli.parse(Train, ["--output_dir", "out", *words], **options)


def error_of(*words: str, config: type = Train, **options: Any) -> str:
    required = ["--output_dir", "out"] if config is Train else []
    with pytest.raises(InputError) as caught:
        cli.parse(config, [*required, *words], **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


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
@given(
    st.text().filter(lambda text: text.lower() not in WORDS) | st.sampled_from(["t", "y", "on", "off", "2"])
)
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


# ------------------------------ files


def config_file(folder: Path, content: str | bytes, name: str = "cfg.yaml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_flags_override_files_and_files_override_defaults(tmp_path: Path) -> None:
    one = config_file(
        tmp_path, '\ufeff{"seed": 1, "epochs": 5, "learning-rate": 0.5, "output_dir": "x"}', "cfg.json"
    )
    two = config_file(tmp_path, "epochs: 6\n# a comment\n", "b.yml")
    assert cli.parse(Train, [one, "--seed", "2"]) == Train(Path("x"), seed=2, epochs=5, learning_rate=0.5)
    assert cli.parse(Train, ["--seed", "2", "--config", one]) == Train(
        Path("x"), seed=2, epochs=5, learning_rate=0.5
    )
    assert cli.parse(Train, [f"--config={one}", "--config", two]).epochs == 6
    assert cli.parse(Train, [two, "--config_file", one]).epochs == 5


def test_yaml_means_what_it_looks_like(tmp_path: Path) -> None:
    path = config_file(
        tmp_path,
        "\ufeffoutput_dir: runs/2023-10-27\nmodel_name_or_path: 2023-10-27\nlearning_rate: 1e-5\n"
        "eval_strategy: no\nfp16: yes\nbf16: 0\nseed: ~\nload_kbit: 4\nsave_steps:\n"
        "bidirectional_from: '31'\ntasks: STS12, STS13\nlayers: [1, '2']\nbetas: [0, .5]\nprompt: 'none'\n"
        "model_kwargs: {use_reentrant: false, n: 1e3, revision: 010}\n",
    )
    config = cli.parse(Train, [path])
    assert config.output_dir == Path("runs/2023-10-27")
    assert config.model_name_or_path == "2023-10-27"
    assert config.learning_rate == 1e-5
    assert config.eval_strategy == "no"
    assert (config.fp16, config.bf16, config.seed, config.save_steps) == (True, False, None, None)
    assert (config.load_kbit, config.bidirectional_from) == (4, 31)
    assert config.tasks == ["STS12", "STS13"]
    assert (config.layers, config.betas) == ((1, 2), (0.0, 0.5))
    assert config.prompt == "none"
    assert config.model_kwargs == {"use_reentrant": False, "n": 1000.0, "revision": "010"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cfg.json",
            '{"lerning_rate": 1, "xyzzy": 2}',
            "cfg.json: unknown 'lerning_rate' (did you mean learning_rate?), 'xyzzy'",
        ),
        ("cfg.json", '{\n"seed": 1,\n}', "cfg.json:3: not JSON"),
        ("cfg.json", '{"seed": 1, "seed": 2}', "cfg.json: 'seed' stands there twice"),
        ("cfg.json", "[1]", "cfg.json: a list of `name: value` lines is due, not a list"),
        ("cfg.json", "", "cfg.json:1: not JSON"),
        ("cfg.yaml", "seed: 1\nseed: 2\n", "cfg.yaml:2: not YAML: 'seed' stands there twice"),
        ("cfg.yaml", "model_kwargs:\n  a: 1\n  a: 2\n", "cfg.yaml:3: not YAML: 'a' stands there twice"),
        ("cfg.yaml", "seed: [1\nepochs: 2\n", "cfg.yaml:2: not YAML"),
        ("cfg.yaml", "seed: 1\n\tepochs: 2\n", "cfg.yaml:2: not YAML"),
        ("cfg.yaml", "seed: !!python/object:os.system x\n", "cfg.yaml:1: not YAML"),
        ("cfg.yaml", "seed: 1\x00", "cfg.yaml: "),
        ("cfg.yaml", b"prompt: \xff", "cfg.yaml: not UTF-8"),
        ("cfg.yaml", "just text", "cfg.yaml: a list of `name: value` lines is due, not a str"),
        ("cfg.yaml", "prompt: 123", "cfg.yaml: prompt: 123 is a number here; put it in quotes"),
        (
            "cfg.yaml",
            "model_name_or_path: true",
            "model_name_or_path: true is a boolean here; put it in quotes",
        ),
        ("cfg.yaml", "seed: true", "cfg.yaml: seed: true is not a whole number"),
        ("cfg.yaml", "learning_rate: false", "learning_rate: false is not a number"),
        ("cfg.yaml", "learning_rate: .nan", "is not a finite number"),
        ("cfg.yaml", "load_kbit: true", "load_kbit: true is not one of 4, 8, 16"),
        ("cfg.yaml", "fp16: maybe", 'fp16: "maybe" is not a boolean'),
        ("cfg.yaml", "fp16: 2", "fp16: 2 is not a boolean"),
        ("cfg.yaml", "max_length:", "max_length: null is not a whole number"),
        ("cfg.yaml", "tasks: {a: 1}", 'tasks: {"a": 1} is not a list'),
        ("cfg.yaml", "model_kwargs: [1]", "model_kwargs: [1] is not a JSON object"),
        ("cfg.yaml", "config: b.yaml", "cfg.yaml: unknown 'config'"),
        ("cfg.yaml", "maxlen: 1\nmax_length: 2", "maxlen and max_length are one setting; keep one of them"),
        ("cfg.toml", "seed = 1", "a configuration is a .json, .yaml or .yml file"),
    ],
)
def test_wrong_files_are_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert message in error_of("--config", config_file(tmp_path, content, name))


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    config_file(tmp_path, "{}", "bert_base.yaml")
    wanted = tmp_path / "bert-base.yaml"
    assert (
        error_of("--config", str(wanted))
        == f"{wanted}: no such file; did you mean {tmp_path / 'bert_base.yaml'}?"
    )
    assert error_of("--config", str(tmp_path / "no" / "x.yaml")).endswith("x.yaml: no such file")


# ------------------------------ describe

plain_text = st.text() | st.sampled_from(
    ["no", "1e5", "1e-5", "010", "0o17", "~", "null", "2023-10-27", "1:30", "=", "<<", "True", " x"]
)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | plain_text,
    lambda v: st.lists(v) | st.dictionaries(plain_text, v),
    max_leaves=5,
)
configs = st.builds(
    Train,
    output_dir=st.sampled_from([Path("a"), Path("/b/ c"), Path("1e5"), Path("é")]),
    model_name_or_path=plain_text,
    prompt=st.none() | plain_text,
    learning_rate=finite,
    max_length=st.integers(),
    fp16=st.booleans(),
    bf16=st.none() | st.booleans(),
    seed=st.none() | st.integers(),
    load_kbit=st.sampled_from([None, 4, 8, 16]),
    eval_strategy=st.sampled_from(["no", "steps", "epoch"]),
    save_steps=st.none() | finite,
    bidirectional_from=st.integers() | st.just("all"),
    tasks=st.lists(plain_text),
    lora_target_modules=st.none() | st.lists(plain_text),
    layers=st.lists(st.integers()).map(tuple),
    split=st.integers() | plain_text | st.just("12"),
    betas=st.tuples(finite, finite),
    files=st.lists(st.sampled_from([Path("a,b"), Path("c")])),
    schedule=st.sampled_from(Schedule),
    model_kwargs=st.dictionaries(plain_text, json_value),
)


@unhurried
@given(config=configs, suffix=st.sampled_from([".yaml", ".json"]))
def test_what_is_described_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, config: Train, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("config") / f"cfg{suffix}"
    text = cli.describe(config)
    if suffix == ".json":
        text = json.dumps(cli.cli_values.plain(dataclasses.asdict(config)))
    path.write_bytes(text.encode("utf-8"))
    assert cli.parse(Train, [str(path)]) == config


@unhurried
@given(text=st.text())
def test_a_flag_keeps_any_text(text: str) -> None:
    assert train(f"--model_name_or_path={text}").model_name_or_path == text


def test_describe_keeps_the_order_of_fields_and_leaves_out_what_is_no_recipe() -> None:
    text = cli.describe(Train(Path("out"), prompt="Grüße {text}", dry_run=True))
    names = [line.partition(":")[0] for line in text.splitlines() if line[0] not in "- "]
    assert names == [item.name for item in dataclasses.fields(Train) if item.name != "dry_run"]
    assert "prompt: Grüße {text}\n" in text


# ------------------------------ old names


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
    assert (
        error_of("--apply_tdmse", "1", refused=refused) == "--apply_tdmse is not supported: use --apply_ese"
    )
    path = config_file(tmp_path, "apply_tdmse: 1")
    assert (
        error_of("--config", path, refused=refused)
        == f"{path}: apply_tdmse is not supported: use --apply_ese"
    )


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
    words = (
        "--save_dir ckpts/NLI-STS-angle-llama-7b --w2 35 --learning_rate 2e-4 --maxlen 45 --batch_size 160"
    )
    words += " --seed 42 --do_eval 0 --load_kbit 4 --epochs 1 --gradient_checkpointing --fp16 --model_name x"
    words += " --target_modules q_proj k_proj v_proj --bf16 False"
    config = cli.parse(
        Train,
        words.split(),
        aliases={"w2": "ibn_w", "do_eval": "eval_strategy"},
        values={"do_eval": {"0": "no", "1": "steps"}},
    )
    expected = Train(
        Path("ckpts/NLI-STS-angle-llama-7b"), model_name_or_path="x", ibn_w=35.0, learning_rate=2e-4
    )
    expected = dataclasses.replace(expected, max_length=45, batch_size=160, seed=42, load_kbit=4, fp16=True)
    assert config == dataclasses.replace(
        expected, bf16=False, lora_target_modules=["q_proj", "k_proj", "v_proj"]
    )


# ------------------------------ help


def test_help_shows_groups_defaults_and_old_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(
            Train, ["--nonsense", "--help"], prog="angle/train.py", description="Train with 100% of it."
        )
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


# ------------------------------ programs

PROGRAM = '''
"""A program under test."""
from __future__ import annotations
import logging, sys
from dataclasses import dataclass
from pathlib import Path
from common import cli
from common.errors import InputError

@dataclass
class Config:
    what: str
    code: int = 0

def main(config: Config) -> int | None:
    logging.getLogger(__name__).info("at work")
    logging.getLogger("urllib3").info("noise")
    match config.what:
        case "input": raise InputError("row 3: no label;\\nmend it")
        case "missing": Path("nowhere.txt").read_text()
        case "folder": Path(".").read_text()
        case "bug": raise ValueError("a bug")
        case "nameless": raise FileNotFoundError("no cached file")
        case "interrupt": raise KeyboardInterrupt
        case "none": return None
        case "wait":
            import time
            print("ready", flush=True)
            time.sleep(60)
    return config.code

if __name__ == "__main__":
    cli.run(main, Config, description=__doc__)
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "train.py").write_text(PROGRAM)
    return tmp_path


def start(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{folder}", **extra}
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=variables)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["none"], 0, "at work\n"),
        (["ok", "--code", "1"], 1, "at work\n"),
        (["input"], 2, "at work\npaper/train.py: error: row 3: no label; mend it\n"),
        (["missing"], 2, "at work\npaper/train.py: error: nowhere.txt: No such file or directory\n"),
        (["folder"], 2, "at work\npaper/train.py: error: .: Is a directory\n"),
        (["interrupt"], 130, "at work\npaper/train.py: interrupted\n"),
        (
            ["ok", "--cod", "1"],
            2,
            "paper/train.py: error: unknown flag --cod (did you mean --code?); --help lists the flags\n",
        ),
    ],
)
def test_exit_codes_and_messages(program: Path, words: list[str], code: int, error: str) -> None:
    done = start(program, "paper/train.py", "--what", *words)
    assert (done.returncode, done.stderr, done.stdout) == (code, error, "")


@pytest.mark.parametrize("what", ["bug", "nameless"])
def test_bugs_keep_their_traceback(program: Path, what: str) -> None:
    done = start(program, "paper/train.py", "--what", what)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith({"bug": "ValueError: a bug\n", "nameless": "Error: no cached file\n"}[what])


def test_an_interrupt_from_outside(program: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "paper/train.py", "--what", "wait"]
    with subprocess.Popen(
        command, cwd=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.decode().endswith("paper/train.py: interrupted\n")
    assert "Traceback" not in error.decode()


def test_of_several_processes_one_speaks(program: Path) -> None:
    second = {"LOCAL_RANK": "1", "RANK": "1"}
    for words in (["--help"], ["--what", "ok", "--cod", "1"], ["--what", "ok", "--old", "1"]):
        done = start(program, "paper/train.py", *words, **second)
        assert (done.stdout, done.stderr) == ("", "")
    done = start(program, "paper/train.py", "--what", "input", **second)  # what befell it alone, it must tell
    assert (done.returncode, done.stderr) == (2, "paper/train.py: [rank 1] error: row 3: no label; mend it\n")
    assert start(program, "paper/train.py", "--what", "ok", LOCAL_RANK="0").stderr == "at work\n"


def test_help_imports_no_heavy_library(program: Path) -> None:
    check = "import sys, runpy; sys.argv = ['paper/train.py', '--help']\n"
    check += "try: runpy.run_path('paper/train.py', run_name='__main__')\n"
    check += (
        "except SystemExit: print('heavy:', *{'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = start(program, "-c", check)
    assert done.stdout.startswith("usage: ")
    assert "A program under test." in done.stdout
    assert done.stdout.endswith("heavy:\n")


# ------------------------------ sub-commands

BENCH = '''
"""Benchmarks under test."""
from common import cli
from common.errors import InputError

if __name__ == "__main__":
    commands = {"run": "bench.commands:run", "table": "bench.commands:table", "broken": "bench.broken:main"}
    cli.dispatch(commands, description=__doc__)
'''

COMMANDS = '''
"""The commands."""
from dataclasses import dataclass
from common import cli
from common.errors import InputError
print("imported")

@dataclass
class Config:
    limit: int = 0

def run(argv):
    """Run a suite.

    At length.
    """
    cli.run(lambda config: print(config) or 1, Config, argv)

def table(argv):
    if argv == ["bad"]:
        raise InputError("no such table")
    print(argv)
'''


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    files = {
        "__main__.py": BENCH,
        "commands.py": COMMANDS,
        "broken.py": '"""Needs what is not there."""\nimport nowhere\n',
    }
    (tmp_path / "bench").mkdir()
    for name, text in {**files, "__init__.py": ""}.items():
        (tmp_path / "bench" / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["help"], 0), ([], 2)])
def test_commands_are_listed_without_importing_them(bench: Path, words: list[str], code: int) -> None:
    done = start(bench, "-m", "bench", *words)
    assert done.returncode == code
    text = done.stderr if code else done.stdout
    assert "usage: python -m bench COMMAND" in text
    assert "Benchmarks under test." in text
    assert "  run     Run a suite\n  table   The commands\n  broken  Needs what is not there\n" in text
    assert "imported" not in text


@pytest.mark.parametrize(
    ("words", "code", "out", "error"),
    [
        (["run", "--limit", "3"], 1, "imported\nConfig(limit=3)\n", ""),
        (["table", "a", "--b"], 0, "imported\n['a', '--b']\n", ""),
        (["table", "bad"], 2, "imported\n", "python -m bench table: error: no such table\n"),
        (
            ["run", "--limt", "3"],
            2,
            "imported\n",
            "python -m bench run: error: unknown flag --limt (did you mean --limit?); "
            "--help lists the flags\n",
        ),
        (["tabel"], 2, "", "python -m bench: error: unknown command 'tabel'; did you mean 'table'?\n"),
        (
            ["xyzzy"],
            2,
            "",
            "python -m bench: error: unknown command 'xyzzy'; the commands are run, table, broken\n",
        ),
    ],
)
def test_commands(bench: Path, words: list[str], code: int, out: str, error: str) -> None:
    done = start(bench, "-m", "bench", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, error)


def test_help_of_one_command_names_it_in_full(bench: Path) -> None:
    for words in (["run", "--help"], ["help", "run"]):
        assert (
            "usage: python -m bench run [CONFIG.yaml] [--flag value ...]"
            in start(bench, "-m", "bench", *words).stdout
        )


def test_a_broken_command_does_not_break_the_others(bench: Path) -> None:
    assert "nowhere" in start(bench, "-m", "bench", "broken").stderr
    assert start(bench, "-m", "bench", "table").returncode == 0
