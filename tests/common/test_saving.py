"""Folders: round trips, and what plain sentence-transformers, transformers and PEFT make of them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_texts import PROMPT, SEARCH, TEXTS, distance

from common import saving
from common.attention import get_attention, set_attention
from common.encoder import Encoder
from common.errors import InputError
from common.lora import prepare_for_training
from common.prompts import Template
from common.registry import load

FP32: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
Make = Callable[..., Encoder]


def reload(folder: Path, **options: Any) -> Encoder:
    return Encoder.from_pretrained(folder, **FP32, **options)


def sentence_transformer(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    options = {"dtype": torch.float32}
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)


def adapted(make: Make, adapter: Path, **options: Any) -> Encoder:
    return make("llama", backbone={"adapter": str(adapter)}, **{"pooling": "last", **options})


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def check_round_trip(encoder: Encoder, folder: Path, **options: Any) -> Encoder:
    encoder.save_pretrained(folder, **options)
    again = reload(folder)
    # Merged weights are rounded sums.
    limit = 1e-5 if options.get("merge") else 1e-6
    assert distance(again.encode(TEXTS), encoder.encode(TEXTS)) < limit
    for name in ("method", "template", "query_template", "document_template", "pooling", "attention"):
        assert getattr(again.info, name) == getattr(encoder.info, name), name
    for name in ("max_length", "normalize", "compat", "dtype"):
        assert getattr(again.info, name) == getattr(encoder.info, name), name
    return again


# ------------------------------ our own round trip


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {}),
        ("bert", {"pooling": "cls_avg", "normalize": True, "max_length": 40}),
        ("bert", {"pooling": "pooler"}),
        ("llama", {"pooling": "last", "template": Template(PROMPT)}),
        (
            "llama",
            {"pooling": "weighted_mean", "compat": frozenset({"angle:tail-truncation"}), "max_length": 20},
        ),
        (
            "llama",
            {
                "template": Template("{instruction}: {text}", "{text}"),
                "query_template": Template(SEARCH),
                "document_template": Template("passage: {text}"),
            },
        ),
    ],
)
def test_whole_weights(make_encoder: Make, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    encoder = make_encoder(kind, **options)
    again = check_round_trip(encoder, tmp_path / "saved")
    assert distance(again.encode_query(TEXTS), encoder.encode_query(TEXTS)) < 1e-6
    assert distance(again.encode_document(TEXTS), encoder.encode_document(TEXTS)) < 1e-6
    if encoder.templates["text"].takes_instruction:
        texts = [e.encode(TEXTS, instruction="topic") for e in (again, encoder)]
        assert distance(*texts) < 1e-6
    # The second generation is the first.
    check_round_trip(again, tmp_path / "saved again")


@pytest.mark.parametrize("mode", ["bidirectional", {"bidirectional_from": 1}, {"bidirectional_from": 2}])
@pytest.mark.parametrize("what", ["whole", "adapter", "merged"])
def test_attention_comes_back(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, mode: Any, what: str
) -> None:
    # With the last token alone a last layer that sees both ways would change nothing.
    options: dict[str, Any] = {} if what == "whole" else {"backbone": {"adapter": str(lora_folders["headed"])}}
    encoder = make_encoder("llama", pooling="mean", **options)
    causal = encoder.encode(TEXTS)
    set_attention(encoder.backbone.model, mode)
    assert distance(encoder.encode(TEXTS), causal) > 1e-3
    again = check_round_trip(encoder, tmp_path / "saved", merge=what == "merged")
    assert get_attention(again.backbone.model) == mode


@pytest.mark.parametrize("merge", [False, True])
def test_one_adapter(make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, merge: bool) -> None:
    encoder = adapted(make_encoder, lora_folders["headed"], template=Template(PROMPT))
    assert distance(encoder.encode(TEXTS), make_encoder("llama", pooling="last").encode(TEXTS)) > 1e-3
    encoder.save_pretrained(tmp_path / "saved", merge=merge)
    assert (tmp_path / "saved" / "adapter_model.safetensors").is_file() is not merge
    assert (tmp_path / "saved" / "model.safetensors").is_file() is merge
    # Merged weights are rounded sums.
    assert distance(reload(tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) < (1e-5 if merge else 1e-6)
    # What was saved is unharmed.
    assert distance(encoder.encode(TEXTS), adapted(make_encoder, lora_folders["trunk"]).encode(
        [PROMPT.replace("{text}", t) for t in TEXTS])) < 1e-6  # fmt: skip
    assert encoder.backbone.model.peft_config["default"].task_type is None  # type: ignore[union-attr]


@pytest.mark.parametrize("merge", [False, True])
def test_stacked_adapters(make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, merge: bool) -> None:
    stack = [str(lora_folders["headed"]), str(lora_folders["other"])]
    encoder = make_encoder("llama", backbone={"adapter": stack}, pooling="last")
    for one in stack:
        assert distance(encoder.encode(TEXTS), adapted(make_encoder, Path(one)).encode(TEXTS)) > 1e-3
    encoder.save_pretrained(tmp_path / "saved", merge=merge)
    again = reload(tmp_path / "saved")
    assert distance(again.encode(TEXTS), encoder.encode(TEXTS)) < 1e-5
    if not merge:
        assert again.info.adapter == (str(tmp_path / "saved" / "stacked" / "0"), str(tmp_path / "saved"))
        assert distance(check_round_trip(again, tmp_path / "again").encode(TEXTS), encoder.encode(TEXTS)) < 1e-5


@pytest.mark.parametrize("merge_first", [False, True])
def test_a_fresh_adapter_on_top_of_a_merged_one(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, merge_first: bool
) -> None:
    options = {"adapter": str(lora_folders["headed"]), "merge_adapter": merge_first}
    encoder = make_encoder("llama", backbone=options, pooling="last")
    lora: dict[str, Any] = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "up_proj"]}
    prepare_for_training(encoder, apply_lora=True, **lora)
    with torch.no_grad():
        for name, parameter in encoder.backbone.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    again = check_round_trip(encoder, tmp_path / "saved")
    assert again.backbone.adapters == (str(tmp_path / "saved" / "stacked" / "0"), str(tmp_path / "saved"))


def test_settings_can_be_overridden(make_encoder: Make, tmp_path: Path) -> None:
    make_encoder("llama", template=Template(PROMPT), pooling="last").save_pretrained(tmp_path / "saved")
    options: dict[str, Any] = {"pooling": "mean", "max_length": 120, "compat": "angle:tail-truncation"}
    changed = load("angle", str(tmp_path / "saved"), template="about: {text}", normalize=True, **options, **FP32)
    plain = make_encoder("llama", pooling="mean", normalize=True)
    assert distance(changed.encode(TEXTS[:3]), plain.encode([f"about: {t}" for t in TEXTS[:3]])) < 1e-5
    info = changed.info
    assert (info.template, info.pooling, info.max_length) == ("about: {text}", "mean", 120)
    assert (info.normalize, info.compat) == (True, ("angle:tail-truncation",))
    with pytest.raises(InputError, match="exactly once"):
        reload(tmp_path / "saved", template="no place")


def test_folders_that_are_not_ours_are_refused(bert_folder: Path, make_encoder: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no encoder\.json in it"):
        reload(bert_folder)
    make_encoder("bert").save_pretrained(tmp_path / "saved")
    settings = tmp_path / "saved" / "encoder.json"
    settings.write_text(settings.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="format 2 is not known here"):
        reload(tmp_path / "saved")


def test_a_save_that_fails_leaves_the_old_folder_whole(
    make_encoder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    make_encoder("bert", pooling="cls").save_pretrained(folder)
    before = fingerprint(folder)

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("save_tokenizer", "save_sentence_transformers_files"):
        with monkeypatch.context() as patch:
            patch.setattr(saving, step, full_disk)
            with pytest.raises(OSError, match="No space left"):
                make_encoder("bert").save_pretrained(folder)
        assert fingerprint(folder) == before
        assert [f.name for f in tmp_path.iterdir()] == ["saved"]  # nothing half done stays
    make_encoder("llama").save_pretrained(folder)  # another kind of model: nothing of the old one stays
    assert "1_Pooling/config.json" in fingerprint(folder)
    assert reload(folder).backbone.is_decoder


@pytest.mark.parametrize("kind", ["bert", "adapter"])
def test_weights_of_a_checkpoint_go_back_into_the_encoder(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    encoder = adapted(make_encoder, lora_folders["headed"]) if kind == "adapter" else make_encoder(kind)
    (tmp_path / "trainer_state.json").write_text("{}")
    saving.save_into(encoder, tmp_path)
    assert (tmp_path / "trainer_state.json").is_file()  # what was there stays
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    before = encoder.encode(TEXTS)
    with torch.no_grad():
        for name, parameter in encoder.backbone.model.named_parameters():
            if "lora_" in name or kind == "bert":
                parameter.add_(0.1)
    assert distance(encoder.encode(TEXTS), before) > 1e-3
    saving.load_weights(encoder, tmp_path)
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)


# ------------------------------ plain sentence-transformers


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {"pooling": "mean"}),
        ("bert", {"pooling": "cls", "normalize": True}),
        ("bert", {"pooling": "max"}),
        ("bert", {"pooling": "mean", "template": Template(PROMPT)}),
        ("llama", {"pooling": "last"}),  # its own chat template must not come in
        ("llama", {"pooling": "last", "template": Template(PROMPT)}),
        (
            "llama",
            {"pooling": "weighted_mean", "template": Template('Newline:\n\t"{text}" \\ {x} {{ y }} →')},
        ),
        ("llama", {"pooling": "mean", "template": Template("{examples}{text} =>")}),
        ("llama", {"pooling": "mean", "template": Template("{instruction}: {text}", "plain: {text}")}),
    ],
)
def test_sentence_transformers_gives_the_same_vectors(
    make_encoder: Make, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    encoder = make_encoder(kind, **options)
    encoder.save_pretrained(tmp_path / "saved")
    vectors = encoder.encode(TEXTS)
    theirs = sentence_transformer(tmp_path / "saved").encode(TEXTS)
    assert distance(theirs, vectors) <= 2e-5
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), np.linalg.norm(vectors, axis=1), rtol=1e-4)
    assert distance(encoder.to_sentence_transformer().encode(TEXTS), vectors) <= 2e-5


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_special_tokens_around_a_prompt(stories: Path, make_encoder: Make, tmp_path: Path, pooling: str) -> None:
    for template in (Template(), Template(PROMPT)):
        encoder = make_encoder(stories, template=template, pooling=pooling)
        first = encoder.tokenize(["a"])[0][0]
        assert first == encoder.backbone.tokenizer.bos_token_id
        encoder.save_pretrained(tmp_path / "saved")
        latin = [t for t in TEXTS if t.isascii()]
        assert distance(sentence_transformer(tmp_path / "saved").encode(latin), encoder.encode(latin)) <= 2e-5


@pytest.mark.parametrize("layout", ["headed", "trunk"])
@pytest.mark.parametrize("merge", [False, True])
def test_sentence_transformers_opens_adapters(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, layout: str, merge: bool
) -> None:
    encoder = adapted(make_encoder, lora_folders[layout], template=Template(PROMPT))
    encoder.save_pretrained(tmp_path / "saved", merge=merge)
    assert distance(sentence_transformer(tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) <= 2e-5


def test_sentence_transformers_keeps_full_attention_of_whole_weights(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path
) -> None:
    encoder = adapted(make_encoder, lora_folders["headed"], pooling="mean")
    set_attention(encoder.backbone.model, "bidirectional")
    encoder.save_pretrained(tmp_path / "saved", merge=True)
    assert distance(sentence_transformer(tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) <= 2e-5


def test_sentence_transformers_has_both_sides_of_retrieval(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bert", query_template=Template(SEARCH), document_template=Template("passage: {text}"))
    encoder.save_pretrained(tmp_path / "saved")
    theirs = sentence_transformer(tmp_path / "saved")
    assert distance(theirs.encode(TEXTS), encoder.encode(TEXTS)) <= 2e-5
    assert distance(theirs.encode_query(TEXTS), encoder.encode_query(TEXTS)) <= 2e-5
    assert distance(theirs.encode_document(TEXTS), encoder.encode_document(TEXTS)) <= 2e-5


def test_sentence_transformers_shortens_at_the_same_length(make_encoder: Make, tmp_path: Path) -> None:
    encoder = make_encoder("bert", max_length=30)
    encoder.save_pretrained(tmp_path / "saved")
    long = [" ".join(TEXTS), TEXTS[1] * 3]
    theirs = sentence_transformer(tmp_path / "saved")
    assert theirs.max_seq_length == 30
    assert distance(theirs.encode(long), encoder.encode(long)) <= 2e-5
    assert encoder.usage.truncated == 2


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("pooling 'cls_avg'", {"pooling": "cls_avg"}),
        ("attention {'bidirectional_from': 1}", {"attention": {"bidirectional_from": 1}}),
        ("a template that needs an instruction", {"template": Template("{instruction}: {text}")}),
        ("compat ['angle:max-pooling']", {"pooling": "max", "compat": frozenset({"angle:max-pooling"})}),
        ("a query template with a tail", {"query_template": Template(PROMPT)}),
        ("a query template", {"template": Template(PROMPT), "query_template": Template(SEARCH)}),
    ],
)
def test_what_sentence_transformers_cannot_express_is_refused_by_name(
    make_encoder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, says: str, options: dict[str, Any]
) -> None:
    options = dict(options)
    attention = options.pop("attention", None)
    encoder = make_encoder("llama", **options)
    if attention:
        set_attention(encoder.backbone.model, attention)
    with caplog.at_level(logging.WARNING, logger="common.saving"):
        encoder.save_pretrained(tmp_path / "saved")
    assert f"no files for plain sentence-transformers: {says}" in caplog.text
    assert not (tmp_path / "saved" / "modules.json").exists()
    with pytest.raises(InputError) as caught:
        encoder.to_sentence_transformer()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    texts = {"instruction": "topic"} if "instruction" in says else {}
    vectors = [e.encode(TEXTS, **texts) for e in (reload(tmp_path / "saved"), encoder)]
    assert distance(*vectors) < 1e-6


@pytest.mark.parametrize("why", ["bidirectional", "stacked"])
def test_an_adapter_that_needs_more_than_its_base_is_not_offered(
    make_encoder: Make,
    lora_folders: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    stack = [str(lora_folders["headed"]), *([str(lora_folders["other"])] if why == "stacked" else [])]
    encoder = make_encoder("llama", backbone={"adapter": stack})
    if why == "bidirectional":
        set_attention(encoder.backbone.model, "bidirectional")
    encoder.save_pretrained(tmp_path / "saved")
    assert "save with merge=True" in caplog.text
    assert not (tmp_path / "saved" / "modules.json").exists()
    encoder.save_pretrained(tmp_path / "merged", merge=True)
    theirs = sentence_transformer(tmp_path / "merged").encode(TEXTS)
    assert distance(theirs, encoder.encode(TEXTS)) <= 2e-5
    assert distance(encoder.to_sentence_transformer().encode(TEXTS), encoder.encode(TEXTS)) <= 2e-5


# ------------------------------ plain transformers and PEFT


def test_a_saved_adapter_opens_in_plain_peft(
    make_encoder: Make, llama_folder: Path, lora_folders: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    encoder = adapted(make_encoder, lora_folders["trunk"])
    encoder.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(llama_folder)
    assert config["task_type"] == "CAUSAL_LM"
    base = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(tmp_path / "saved")).eval()
    for text in TEXTS[:3]:
        batch = encoder.backbone.tokenizer(text, return_tensors="pt")
        ids = batch["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=batch["attention_mask"], output_hidden_states=True)
        assert distance(encoder.encode(text), states.hidden_states[-1][0, -1]) < 1e-5
