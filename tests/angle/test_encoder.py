"""angle/encoder.py and angle/compat.py: how AnglE reads a model, and the names of its quirks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from angle.compat import COMPAT
from angle.encoder import CHECKPOINTS, load
from angle.prompts import Prompts, prompt_text
from common import pooling
from common.angle_objective import INT_LABELS
from common.checkpoints import known_model
from common.errors import InputError
from common.model_flags import check_is_llm

REPO = Path(__file__).resolve().parents[2]
TEXTS = ["A man is playing the flute.", "Two dogs run through a field of tall grass."]


def test_a_language_model_gets_the_one_word_prompt_and_the_last_token(llama_folder):
    info = load(str(llama_folder), device="cpu").info
    assert (info.template, info.pooling, info.max_length) == (
        Prompts.A,
        "last",
        256,
    )  # 256: all the model has


def test_an_encoder_gets_the_bare_text_and_the_first_token(bert_folder):
    encoder = load(str(bert_folder), device="cpu", dtype="float32")
    assert (encoder.info.template, encoder.info.pooling) == ("{text}", "cls")
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(bert_folder), AutoTokenizer.from_pretrained(bert_folder)
    with torch.no_grad():
        want = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0, 0].numpy() for t in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), np.stack(want), atol=1e-5)


def test_arguments_win_over_the_defaults(llama_folder):
    encoder = load(str(llama_folder), template="B", query_template="C", pooling="avg", max_length=40, device="cpu")
    assert encoder.info.template == Prompts.B
    assert encoder.info.query_template == Prompts.C
    assert encoder.info.max_length == 40
    assert encoder.pooling == "mean"


def test_prompts_are_the_released_ones():
    assert prompt_text("A") == 'Summarize sentence "{text}" in one word:"'
    assert list(Prompts.list_prompts()) == ["A", "B", "C"]
    assert prompt_text("{text}, in short:") == "{text}, in short:"


@pytest.mark.parametrize(
    ("model", "adapter"),
    [
        ("SeanLee97/angle-llama-7b-nli-v2", None),
        (None, "SeanLee97/angle-llama-7b-nli-v2"),
        ("NousResearch/Llama-2-7b-hf", "SeanLee97/angle-llama-7b-nli-v2"),
    ],
)
def test_a_released_adapter_brings_base_and_settings(model, adapter):
    known = known_model(CHECKPOINTS, model, adapter)
    assert known.base == "NousResearch/Llama-2-7b-hf"
    assert known.adapter == ("SeanLee97/angle-llama-7b-nli-v2",)
    assert known.options == {"template": Prompts.A, "pooling": "last"}


def test_uae_has_a_prompt_for_queries_alone():
    options = known_model(CHECKPOINTS, "WhereIsAI/UAE-Large-V1", None).options
    assert (options["template"], options["query_template"]) == ("{text}", Prompts.C)


def test_a_folder_saved_here_brings_its_settings_as_adapter_too(llama_folder, lora_folders, tmp_path):
    first = load(str(llama_folder), adapter=str(lora_folders["headed"]), template="B", pooling="mean", device="cpu")
    first.save_pretrained(tmp_path / "saved")
    again = load(str(llama_folder), adapter=str(tmp_path / "saved"), device="cpu")
    assert (again.info.template, again.pooling) == (Prompts.B, "mean")
    np.testing.assert_array_equal(again.encode(TEXTS), first.encode(TEXTS))


def test_is_llm_is_held_against_the_model(make_encoder):
    check_is_llm(make_encoder("llama"), True)
    check_is_llm(make_encoder("bert"), None)
    with pytest.raises(InputError, match=r"--is_llm 0.*decoder"):
        check_is_llm(make_encoder("llama"), False)
    with pytest.raises(InputError, match=r"--is_llm 1.*an encoder"):
        check_is_llm(make_encoder("bert"), True)


def test_every_quirk_in_the_code_is_described_once_and_every_description_is_used():
    sources = [
        file
        for folder in ("common", "angle", "benchmarks", "senteval")
        for file in (REPO / folder).rglob("*.py")
        if file != REPO / "angle" / "compat.py"
    ]
    named = {name for file in sources for name in re.findall(r'"(angle:[a-z-]+)"', file.read_text("utf-8"))}
    assert named == set(COMPAT)
    assert {*pooling.COMPAT, INT_LABELS} <= set(COMPAT)
