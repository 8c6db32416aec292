"""The method "sentence-transformer", held against sentence-transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core_texts import TEXTS, distance

from common.encoder import Encoder
from common.errors import InputError
from common.plain import POOLING
from common.registry import load

FP32: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
Build = Callable[..., Path]


def opened(folder: Path | str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.fixture
def build(bert_folder: Path, tmp_path: Path) -> Build:
    """`build(pooling, *more modules, **options)`: a folder that sentence-transformers itself wrote."""

    def make(pooling: Any = "mean", *more: Any, length: int | None = None, **options: Any) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer

        transformer = Transformer(str(bert_folder), max_seq_length=length)
        modules = [transformer, Pooling(32, pooling_mode=pooling), *more]
        SentenceTransformer(modules=modules, device="cpu", **options).save(
            str(tmp_path / "st"), create_model_card=False
        )
        return tmp_path / "st"

    return make


def plain(folder: Path | str, **options: Any) -> Encoder:
    return load("sentence-transformer", str(folder), **FP32, **options)


@pytest.mark.parametrize("mode", list(POOLING))
def test_pooling_is_read(build: Build, mode: str) -> None:
    folder = build(mode)
    encoder = plain(folder)
    assert encoder.pooling == POOLING[mode]
    assert distance(encoder.encode(TEXTS), opened(folder).encode(TEXTS)) < 1e-5


def test_normalisation_and_length_are_read(build: Build) -> None:
    from sentence_transformers.models import Normalize

    folder = build("cls", Normalize(), length=24)
    encoder = plain(folder)
    assert (encoder.normalize, encoder.max_length, encoder.pooling) == (True, 24, "cls")
    texts = [*TEXTS, " ".join(TEXTS)]
    ours, theirs = encoder.encode(texts), opened(folder).encode(texts)
    assert abs(ours - theirs).max() < 1e-5
    assert encoder.usage.truncated > 0
    assert not plain(folder, normalize=False).normalize
    assert plain(folder, max_length=30, pooling="mean").info.pooling == "mean"


def test_prompts_are_read(build: Build) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    folder = build("mean", prompts=prompts)
    encoder, theirs = plain(folder), opened(folder)
    assert distance(encoder.encode(TEXTS), theirs.encode(TEXTS)) < 1e-5
    assert distance(encoder.encode_query(TEXTS), theirs.encode_query(TEXTS)) < 1e-5
    assert distance(encoder.encode_document(TEXTS), theirs.encode_document(TEXTS)) < 1e-5
    assert (encoder.info.query_template, encoder.info.document_template) == (
        "query: {text}",
        "passage: {text}",
    )
    assert plain(folder, template="about: {text}").info.template == "about: {text}"


def test_a_default_prompt_is_read(build: Build) -> None:
    folder = build("mean", prompts={"sts": "Compare: "}, default_prompt_name="sts")
    encoder, theirs = plain(folder), opened(folder)
    assert encoder.info.template == "Compare: {text}"
    assert distance(encoder.encode(TEXTS), theirs.encode(TEXTS)) < 1e-5


@pytest.mark.parametrize(("flag", "name"), [("cls_token", "cls"), ("max_tokens", "max"), ("mean_tokens", "mean")])
def test_folders_of_older_versions(build: Build, flag: str, name: str) -> None:
    folder = build("weightedmean")
    flags = {f"pooling_mode_{f}": f == flag for f in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    config = folder / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"word_embedding_dimension": 32, **flags}))
    encoder = plain(folder)
    assert encoder.pooling == name
    assert distance(encoder.encode(TEXTS), opened(folder).encode(TEXTS)) < 1e-5


def test_what_cannot_be_done_is_refused_by_name(build: Build) -> None:
    from sentence_transformers.models import Dense

    with pytest.raises(InputError, match="has a Dense module, which this project does not run"):
        plain(build("mean", Dense(32, 16)))


@pytest.mark.parametrize("modes", [("cls", "mean"), "mean_sqrt_len_tokens"])
def test_pooling_that_we_do_not_have_is_refused_by_name(build: Build, modes: Any) -> None:
    folder = build(modes)
    with pytest.raises(InputError, match=r"pooling .* is not one of mean, cls"):
        plain(folder)
    names = (modes,) if isinstance(modes, str) else modes
    old = {"cls": "cls_token", "mean": "mean_tokens", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens"}
    config = {"word_embedding_dimension": 32, **{f"pooling_mode_{old[n]}": True for n in names}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"pooling .* is not one of mean, cls"):
        plain(folder)


def test_prompts_left_out_of_the_pooling_are_refused(build: Build) -> None:
    folder = build("mean", prompts={"query": "query: "})
    config = folder / "1_Pooling" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "include_prompt": False}))
    with pytest.raises(InputError, match="leaves prompts out of the pooling"):
        plain(folder)


def test_a_plain_model_gets_mean_pooling_as_there(bert_folder: Path, llama_folder: Path) -> None:
    encoder = plain(bert_folder)
    assert (encoder.pooling, encoder.normalize) == ("mean", False)
    assert distance(encoder.encode(TEXTS), opened(bert_folder).encode(TEXTS)) < 1e-5
    # The chat template of a language model is left alone.
    decoder = plain(llama_folder)
    assert decoder.tokenize(["rain"])[0] == decoder.backbone.tokenizer("rain")["input_ids"]


# 20 sentences, some over the model's 256 tokens.
SENTENCES = [
    *TEXTS,
    "A man is playing a guitar on a stage.",
    "Someone plays music for a crowd.",
    "The committee will publish its decision on Thursday.",
    "La comisión publicará su decisión el jueves.",
    "Water boils at a lower temperature on high mountains.",
    "Why does bread rise?",
    "Because yeast turns sugar into carbon dioxide, which stays in the dough.",
    "3.14159",
    "!!!",
    "An old train crosses the bridge at night.",
    " ".join(["The train was late again, and nobody knew why."] * 40),
    " ".join(TEXTS * 8),
]


@pytest.mark.weights
def test_minilm_equals_sentence_transformers(weights: tuple[str, str]) -> None:
    encoder = load("sentence-transformer", weights[1], device="cpu")
    assert len(SENTENCES) == 20
    assert (encoder.dim, encoder.max_length, encoder.pooling, encoder.normalize) == (384, 256, "mean", True)
    assert encoder.info.dtype == "float32"
    theirs = opened(encoder.backbone.source.path)
    with torch.inference_mode():
        expected = theirs.encode(SENTENCES)
    assert abs(encoder.encode(SENTENCES) - expected).max() < 1e-5
    assert encoder.usage.truncated == 2
