"""What plain sentence-transformers makes of an encoder that pools a part of what it reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core_texts import PROMPT, TEXTS, distance

from common.attention import set_attention
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template

Make = Callable[..., Encoder]
WITH_INSTRUCTION = Template("{instruction} {text}", "{text}")


def exported(encoder: Encoder, folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    encoder.save_pretrained(folder, merge=True)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})


@pytest.mark.parametrize("pooled", ["text", "text_and_suffix"])
@pytest.mark.parametrize(
    ("kind", "pooling"),
    [("llama", p) for p in ("mean", "weighted_mean", "max", "last", "cls")]
    + [("bos_llama", p) for p in ("mean", "last", "cls")],
)
def test_plain_texts(make_encoder: Make, tmp_path: Path, kind: str, pooling: str, pooled: str) -> None:
    encoder = make_encoder(kind, template=WITH_INSTRUCTION, pooling=pooling, pooled=pooled)
    set_attention(encoder.backbone.model, "bidirectional")
    theirs = exported(encoder, tmp_path / "saved").encode(TEXTS)
    assert distance(theirs, encoder.encode(TEXTS)) <= 1e-5
    if (kind, pooling) == ("bos_llama", "mean"):
        everything = make_encoder(kind, pooling=pooling)
        set_attention(everything.backbone.model, "bidirectional")
        assert distance(theirs, everything.encode(TEXTS)) > 1e-3  # BOS is really left out


def test_an_empty_text_is_the_state_of_bos_there_too(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bos_llama", pooled="text", normalize=True)
    theirs = exported(encoder, tmp_path / "saved")
    assert [type(m).__name__ for m in theirs] == ["Transformer", "WordWeights", "Pooling", "Normalize"]
    assert distance(theirs.encode([*TEXTS, ""]), encoder.encode([*TEXTS, ""])) <= 1e-5


def test_half_precision(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bos_llama", pooled="text", backbone={"dtype": "bfloat16"})
    theirs = encoder.to_sentence_transformer()
    assert theirs[0].auto_model.dtype == torch.bfloat16
    assert distance(theirs.encode([*TEXTS, ""]), encoder.encode([*TEXTS, ""])) <= 1e-2


def test_the_mean_is_over_tokens_behind_the_text_where_they_are_pooled(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bert", pooled="text_and_suffix")  # [CLS] out, [SEP] in
    assert distance(exported(encoder, tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) <= 1e-5
    assert distance(encoder.encode(TEXTS), make_encoder("bert").encode(TEXTS)) > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_prompts_are_left_out(make_encoder: Make, tmp_path: Path, pooling: str) -> None:
    roles = {"query_template": Template("query:\n{text}"), "document_template": Template("{text}")}
    encoder = make_encoder("llama", pooled="text", pooling=pooling, **roles)
    theirs = exported(encoder, tmp_path / "saved")
    assert distance(theirs.encode(TEXTS), encoder.encode(TEXTS)) <= 1e-5
    assert distance(theirs.encode_query(TEXTS), encoder.encode_query(TEXTS)) <= 1e-5
    assert distance(theirs.encode_document(TEXTS), encoder.encode_document(TEXTS)) <= 1e-5
    pooled_too = make_encoder("llama", pooling=pooling, **roles)
    assert distance(encoder.encode_query(TEXTS), pooled_too.encode_query(TEXTS)) > 1e-3


def test_the_last_token_of_a_template(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bos_llama", template=Template(PROMPT), pooling="last", pooled="text_and_suffix")
    assert distance(exported(encoder, tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) <= 1e-5


@pytest.mark.parametrize("kind", ["llama", "bos_llama"])
def test_a_limit_of_the_text_is_one_of_the_sequence(make_encoder: Make, tmp_path: Path, kind: str) -> None:
    encoder = make_encoder(kind, pooled="text", max_text_length=7)
    long = ["the cat sat on the mat and watched the rain"]
    theirs = exported(encoder, tmp_path / "saved")
    assert theirs.max_seq_length == 7 + (kind == "bos_llama")
    assert distance(theirs.encode(long), encoder.encode(long)) <= 1e-5
    assert encoder.usage.truncated == 1
    again = Encoder.from_pretrained(tmp_path / "saved", dtype="float32", device="cpu")
    assert (again.info.pooled, again.info.max_text_length) == ("text", 7)
    assert distance(again.encode(long), encoder.encode(long)) <= 1e-6


@pytest.mark.parametrize(
    ("kind", "says", "options"),
    [
        ("llama", "a template around the text, with pooled 'text_and_suffix'", {"template": Template("a: {text} b")}),
        ("llama", "tokens behind the text, with pooled 'text'", {"template": Template("{text} b"), "pooled": "text"}),
        ("bert", "tokens behind the text, with pooled 'text'", {"pooled": "text", "pooling": "last"}),
        ("bos_llama", "<|begin|> before the text, pooling 'max'", {"pooling": "max"}),
        ("bos_llama", "<|begin|> before the text, pooling 'weighted_mean'", {"pooling": "weighted_mean"}),
        ("bos_llama", "<|begin|> before the text", {"query_template": Template("query:\n{text}")}),
        ("llama", "a prompt and pooling 'weighted_mean'",
         {"pooling": "weighted_mean", "query_template": Template("query:\n{text}")}),
        ("llama", "the prompt 'query: ', whose last token", {"query_template": Template("query: {text}")}),
        ("llama", "at most 9 tokens of text in a template",
         {"pooled": "all", "template": Template(PROMPT), "max_text_length": 9}),
    ],
)  # fmt: skip
def test_the_rest_is_refused_by_name(
    make_encoder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, says: str, options: dict[str, Any]
) -> None:
    encoder = make_encoder(kind, **{"pooled": "text_and_suffix", **options})
    with caplog.at_level(logging.WARNING, logger="common.saving"):
        encoder.save_pretrained(tmp_path / "saved")
    assert f"no files for plain sentence-transformers: {says}" in caplog.text
    assert not (tmp_path / "saved" / "modules.json").exists()
    with pytest.raises(InputError) as caught:
        encoder.to_sentence_transformer()
    assert says in str(caught.value)
    assert ("pooled='all' can be expressed" in str(caught.value)) == (options.get("pooled") != "all")


def test_folders_of_older_versions_pool_all_tokens(make_encoder: Make, tmp_path: Path) -> None:
    make_encoder("llama", pooled="text").save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "encoder.json"
    settings = json.loads(file.read_text())
    assert settings.pop("pooled") == "text"
    assert settings.pop("max_text_length") is None
    file.write_text(json.dumps(settings))
    again = Encoder.from_pretrained(tmp_path / "saved", dtype="float32", device="cpu")
    assert (again.pooled, again.max_text_length) == ("all", None)
