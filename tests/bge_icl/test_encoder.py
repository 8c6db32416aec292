"""bge_icl/encoder.py: prompt, BOS and EOS whatever the tokenizer's files say, saved and loaded, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bge_icl.encoder import CHECKPOINTS, add_bos_and_eos, load
from bge_icl.prompts import EXAMPLE_FORMAT, QUERY_FORMAT, SEPARATOR, SUFFIX, TEMPLATE
from common import registry
from common.checkpoints import known_model
from common.encoder import Encoder
from common.errors import InputError

TEXTS = ["how much protein should a female eat", "summit define", ""]
OPTIONS: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


def test_defaults_are_the_papers(llama_folder: Path) -> None:
    info = load(str(llama_folder), **OPTIONS).info
    assert (info.template, info.pooling, info.attention, info.normalize) == (TEMPLATE, "last", "causal", True)
    assert info.method == "bge_icl"
    values = {"{examples}": EXAMPLE_FORMAT.format("i", "q", "r") + SEPARATOR, "{instruction}": "i", "{text}": "t"}
    whole = TEMPLATE
    for name, value in values.items():
        whole = whole.replace(name, value)
    assert whole == f"<instruct>i\n<query>q\n<response>r\n\n{QUERY_FORMAT.format('i', 't')}{SUFFIX}"


@pytest.mark.parametrize("kind", ["llama_folder", "bos_llama_folder"])
def test_bos_and_eos_stand_around_every_text(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = load(str(request.getfixturevalue(kind)), **OPTIONS)
    tokenizer = encoder.backbone.tokenizer
    for instruction in ("find", None):
        for ids in encoder.tokens([*TEXTS, "rain " * 600], instruction=instruction).ids:
            assert ids[0] == tokenizer.bos_token_id
            assert ids[-1] == tokenizer.eos_token_id
            assert not {tokenizer.eos_token_id, tokenizer.bos_token_id} & set(ids[1:-1])
            assert len(ids) <= 256
    assert encoder.tokens([""]).ids == [[tokenizer.bos_token_id, tokenizer.eos_token_id]]


def test_a_tokenizer_that_adds_both_stays_as_it_is(golden: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(golden.model)
    before = tokenizer(TEXTS)["input_ids"]
    add_bos_and_eos(tokenizer)
    assert tokenizer(TEXTS)["input_ids"] == before


def test_a_tokenizer_without_bos_gets_eos_alone_and_one_without_eos_is_refused(llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.bos_token = None
    add_bos_and_eos(tokenizer)
    bare = tokenizer("rain", add_special_tokens=False)["input_ids"]
    assert tokenizer("rain")["input_ids"] == [*bare, tokenizer.eos_token_id]
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no EOS token"):
        add_bos_and_eos(tokenizer)


def test_the_last_token_is_the_embedding(llama_folder: Path) -> None:
    encoder = load(str(llama_folder), **OPTIONS)
    ids = encoder.tokenize(TEXTS[:1], "query", "find")
    with torch.no_grad():
        state = encoder.backbone.model(torch.tensor(ids)).last_hidden_state[0, -1]
    want = torch.nn.functional.normalize(state, dim=0)
    np.testing.assert_allclose(encoder.encode_query(TEXTS[0], instruction="find"), want, atol=1e-5)


@pytest.mark.parametrize("merge", [False, True])
def test_saved_and_loaded(llama_folder: Path, lora_folders: dict[str, Path], tmp_path: Path, merge: bool) -> None:
    encoder = load(str(llama_folder), adapter=str(lora_folders["headed"]), max_length=100, **OPTIONS)
    want = encoder.encode(TEXTS, instruction="find"), encoder.encode(TEXTS)
    encoder.save_pretrained(tmp_path / "saved", merge=merge)
    for again in (
        load(str(tmp_path / "saved"), **OPTIONS),
        Encoder.from_pretrained(tmp_path / "saved", **OPTIONS),
    ):
        assert again.info.max_length == 100
        assert again.tokenize(TEXTS, "query", "find") == encoder.tokenize(TEXTS, "query", "find")
        np.testing.assert_allclose(again.encode(TEXTS, instruction="find"), want[0], atol=1e-5)
        np.testing.assert_allclose(again.encode(TEXTS), want[1], atol=1e-5)


def test_plain_sentence_transformers_opens_the_export(llama_folder: Path, tmp_path: Path) -> None:
    """Passages as they are; a query is the string that it is to the model."""
    from sentence_transformers import SentenceTransformer

    encoder = load(str(llama_folder), **OPTIONS)
    encoder.save_pretrained(tmp_path / "saved")
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(plain.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    queries = [QUERY_FORMAT.format("find", text) + SUFFIX for text in TEXTS]
    np.testing.assert_allclose(plain.encode(queries), encoder.encode(TEXTS, instruction="find"), atol=1e-5)


def test_a_bidirectional_model_is_refused(bert_folder: Path, llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="causal decoders"):
        load(str(bert_folder), **OPTIONS)
    from llm2vec.encoder import load as load_llm2vec

    load_llm2vec(str(llama_folder), **OPTIONS).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="bidirectional"):
        load(str(tmp_path / "saved"), **OPTIONS)


def test_released_models_are_known() -> None:
    for name in ("BAAI/bge-en-icl", "BAAI/bge-en-icl-e5data"):
        known = known_model(CHECKPOINTS, name, None)
        assert (known.base, known.adapter) == (name, ())
        assert known.options == {"template": TEMPLATE, "pooling": "last", "max_length": 512}


def test_examples_longer_than_the_model_reads(llama_folder: Path) -> None:
    encoder = load(str(llama_folder), **OPTIONS)
    with pytest.raises(InputError, match="the template alone has"):
        encoder.encode(TEXTS, instruction="find", examples="rain in the mountains " * 100)


def test_compat_names_are_checked(llama_folder: Path) -> None:
    with pytest.raises(InputError, match="no such switch"):
        load(str(llama_folder), compat="bge_icl:nothing", **OPTIONS)


def test_the_registry_knows_it(llama_folder: Path) -> None:
    assert registry.load("bge_icl", str(llama_folder), **OPTIONS).info.method == "bge_icl"
