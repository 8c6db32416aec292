from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from cli_example import Schedule, Train, config_file, error_of, train, unhurried
from hypothesis import given
from hypothesis import strategies as st

from common import cli, cli_values

# ------------------------------ files


def test_flags_override_files_and_files_override_defaults(tmp_path: Path) -> None:
    one = config_file(tmp_path, '\ufeff{"seed": 1, "epochs": 5, "learning-rate": 0.5, "output_dir": "x"}', "cfg.json")
    two = config_file(tmp_path, "epochs: 6\n# a comment\n", "b.yml")
    assert cli.parse(Train, [one, "--seed", "2"]) == Train(Path("x"), seed=2, epochs=5, learning_rate=0.5)
    assert cli.parse(Train, ["--seed", "2", "--config", one]) == Train(Path("x"), seed=2, epochs=5, learning_rate=0.5)
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
def test_wrong_files_are_refused_by_name(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert message in error_of("--config", config_file(tmp_path, content, name))


def test_a_boolean_is_no_number_among_choices(tmp_path: Path) -> None:
    @dataclass
    class Choice:
        level: Literal[0, 1] = 0

    assert cli.parse(Choice, ["--config", config_file(tmp_path, "level: 1.0")]).level == 1
    assert "level: true is not one of 0, 1" in error_of(config_file(tmp_path, "level: true"), config=Choice)


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    config_file(tmp_path, "{}", "bert_base.yaml")
    wanted = tmp_path / "bert-base.yaml"
    assert error_of("--config", str(wanted)) == f"{wanted}: no such file; did you mean {tmp_path / 'bert_base.yaml'}?"
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
def test_what_is_described_is_read_back(tmp_path_factory: pytest.TempPathFactory, config: Train, suffix: str) -> None:
    path = tmp_path_factory.mktemp("config") / f"cfg{suffix}"
    text = cli.describe(config)
    if suffix == ".json":
        text = json.dumps(cli_values.plain(dataclasses.asdict(config)))
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
