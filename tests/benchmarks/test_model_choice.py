"""benchmarks/model_choice.py: the same model flags, checks and loading in every program that evaluates."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.layers import LayersConfig
from benchmarks.model_choice import EncodeFlags, ModelChoice
from benchmarks.mteb_program import MtebConfig
from benchmarks.run import RunConfig
from benchmarks.transfer import TransferConfig
from common import cli
from common.errors import InputError

PROGRAMS = [RunConfig, LayersConfig, TransferConfig, MtebConfig]
MODEL = {"method", "model", "adapter", "merge_adapter", "template", "pooling", "max_length", "compat", "options"}
SPEED = {"device", "devices", "dtype", "quantize", "batch_size", "max_batch_tokens"}


def made(program: type[Any], **given: Any) -> Any:
    return program(**({"tasks": ["STS12"]} | given))


@pytest.mark.parametrize("program", PROGRAMS)
def test_flags_stand_under_their_headings_in_every_program(program: type[Any]) -> None:
    groups: dict[str, set[str]] = {}
    for one in dataclasses.fields(program):
        groups.setdefault(one.metadata["group"], set()).add(one.name)
    assert (groups["model"], groups["speed"]) == (MODEL, SPEED)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_checks_what_it_is_given(program: type[Any]) -> None:
    for name in ("max_length", "batch_size", "max_batch_tokens"):
        assert getattr(made(program, **{name: 1}), name) == 1
        with pytest.raises(InputError, match=f"^--{name} 0: must be at least 1$"):
            made(program, **{name: 0})


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_loads_the_model_that_is_chosen(program: type[Any], bert_folder: Path) -> None:
    given = {"template": "Say: {text}!", "pooling": "mean", "max_length": 20, "method": "angle"}
    options = {"model": str(bert_folder), "device": "cpu", "dtype": "bfloat16", "options": {"normalize": True}}
    encoder = made(program, **given, **options).load()
    info = encoder.info.to_dict()
    assert {name: info[name] for name in given} == given
    assert (info["dtype"], info["normalize"], str(encoder.device)) == ("bfloat16", True, "cpu")


def test_what_is_not_said_is_the_methods_own(bert_folder: Path) -> None:
    info = ModelChoice(method="angle", model=str(bert_folder), device="cpu").load().info
    assert (info.pooling, info.template, info.max_length) == ("cls", "{text}", 128)


def test_merged_adapters_give_the_same_vectors(llama_folder: Path, lora_folders: dict[str, Path]) -> None:
    given: dict[str, Any] = {"method": "angle", "model": str(llama_folder), "adapter": [str(lora_folders["headed"])]}
    given |= {"device": "cpu", "dtype": "float32"}
    beside, merged = ModelChoice(**given).load(), ModelChoice(**given, merge_adapter=True).load()
    bare = ModelChoice(**given | {"adapter": []}).load()
    texts = ["a river", "snow in the hills"]
    np.testing.assert_allclose(merged.encode(texts), beside.encode(texts), atol=1e-5)
    assert np.abs(bare.encode(texts) - beside.encode(texts)).max() > 1e-3
    assert (beside.info.merged, merged.info.merged, bare.info.merged) == (False, True, False)
    assert beside.info.fingerprint != merged.info.fingerprint


def test_adapters_quantisation_and_quirks_reach_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("angle.encoder.load", lambda model, **options: seen.update(model=model, **options))
    words = ["--method", "angle", "--model", "m", "--adapter", "a", "b", "--quantize", "4bit"]
    words += ["--compat", "bellm:unmask-padding", "angle:max-pooling"]
    cli.parse(ModelChoice, words).load()
    assert seen == {
        **{"model": "m", "adapter": ["a", "b"], "device": None, "dtype": "auto", "quantize": "4bit"},
        "compat": ["angle:max-pooling", "bellm:unmask-padding"],
    }


def test_an_unknown_quirk_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="--compat bellm:unmask-pading: no such switch; did you mean"):
        ModelChoice(model="no/such-model", compat=["bellm:unmask-pading"]).load()


def test_only_what_was_said_of_encoding_is_passed_on() -> None:
    assert EncodeFlags().encode_options() == {}
    words = ["--batch_size", "3", "--max_batch_tokens", "100", "--devices", "cpu", "cpu"]
    given = cli.parse(EncodeFlags, words).encode_options()
    assert given == {"batch_size": 3, "max_batch_tokens": 100, "devices": ["cpu", "cpu"]}
