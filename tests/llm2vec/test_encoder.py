"""llm2vec/encoder.py, compat.py and checkpoints.yaml: how LLM2Vec reads a model, released ones included."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from core_texts import TEXTS, distance

from common.attention import check_attention, get_attention
from common.checkpoints import known_model, read_checkpoints
from common.encoder import Encoder
from common.errors import InputError
from common.registry import load as load_by_name
from llm2vec.chat_templates import CHAT_TEMPLATES
from llm2vec.compat import COMPAT
from llm2vec.encoder import CHECKPOINTS, load

REPO = Path(__file__).resolve().parents[2]
FP32 = {"device": "cpu", "dtype": "float32"}
SAID = "Find the topic:"


def states(folder, text, adapters=()):
    """The states of plain transformers, bidirectional by its configuration, adapters merged by PEFT."""
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.config.is_causal = False
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**batch).last_hidden_state[0]


def sentence_transformer(folder, dtype=torch.float32):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": dtype})


# ------------------------------ any decoder


def test_the_defaults(llama_folder):
    encoder = load(str(llama_folder), **FP32)
    info = encoder.info
    assert (info.method, info.pooling, info.pooled, info.attention) == (
        "llm2vec",
        "mean",
        "text_and_suffix",
        "bidirectional",
    )
    assert (info.max_length, info.max_text_length) == (256, 400)  # 256: all the model has
    assert encoder.templates["text"].pattern == "{instruction} {text}"
    assert encoder.templates["text"].plain == "{text}"
    assert not info.normalize


@pytest.mark.parametrize("kind", ["llama", "bos_llama"])
def test_the_vector_is_the_mean_over_the_tokens_of_the_text(request, kind):
    folder = request.getfixturevalue(f"{kind}_folder")
    encoder = load(str(folder), **FP32)
    start = int(kind == "bos_llama")
    expected = torch.stack([states(folder, t)[start:].mean(0) for t in TEXTS])
    assert distance(encoder.encode(TEXTS), expected) < 1e-5
    # An instruction is read, and not pooled.
    starts = [encoder.backbone.tokenizer(f"{SAID} {t}").char_to_token(len(SAID) + 1) for t in TEXTS]
    expected = torch.stack([states(folder, f"{SAID} {t}")[i:].mean(0) for t, i in zip(TEXTS, starts)])
    assert distance(encoder.encode(TEXTS, instruction=SAID), expected) < 1e-5
    assert distance(encoder.encode_query(TEXTS, instruction=SAID), expected) < 1e-5
    assert distance(encoder.encode_document(TEXTS), encoder.encode(TEXTS)) < 1e-6


def test_every_token_sees_every_other(llama_folder):
    encoder = load(str(llama_folder), **FP32)
    check_attention(encoder.backbone.model)
    assert get_attention(encoder.backbone.model) == "bidirectional"
    causal = load(str(llama_folder), attention="causal", **FP32)
    assert causal.info.attention == "causal"
    assert distance(causal.encode(TEXTS), encoder.encode(TEXTS)) > 1e-3


def test_the_sliding_window_goes(golden):
    text = " ".join(f"w{i}" for i in range(30))
    narrow, wide = (load(str(golden / "tiny_mistral"), sliding_window=n, **FP32) for n in (3, None))
    assert distance(narrow.encode(text), wide.encode(text)) < 1e-6
    with pytest.raises(InputError, match="a sliding window of 3 that is not used"):
        narrow.to_sentence_transformer()
    assert distance(wide.to_sentence_transformer().encode([text]), wide.encode([text])) < 1e-5


def test_arguments_win_over_the_defaults(llama_folder):
    encoder = load(
        str(llama_folder), template="{instruction}; {text}", pooling="weighted_mean", max_length=40, doc_max_length=7,
        skip_instruction=False, normalize=True, compat="llm2vec:word-truncation", **FP32,
    )  # fmt: skip
    info = encoder.info
    assert (info.template, info.pooling, info.pooled) == ("{instruction}; {text}", "weighted_mean", "all")
    assert (info.max_length, info.max_text_length, info.normalize) == (40, 7, True)
    assert info.compat == ("llm2vec:word-truncation",)
    assert load(str(llama_folder), doc_max_length=0, **FP32).max_text_length is None


def test_a_long_text_loses_tokens_at_its_end_and_never_becomes_empty(llama_folder):
    long = "thecat" * 60
    encoder = load(str(llama_folder), chat_template="mistral", doc_max_length=9, **FP32)
    tokens = encoder.tokens([long])
    (ids,), ((start, end),) = tokens.ids, tokens.pooled
    decode = encoder.backbone.tokenizer.decode
    assert decode(ids).startswith("[INST] thecat")
    assert decode(ids).endswith(" [/INST]")
    assert 0 < end - start - len(encoder.backbone.tokenizer(" [/INST]")["input_ids"]) <= 9
    words = load(str(llama_folder), chat_template="mistral", doc_max_length=9, compat="llm2vec:word-truncation", **FP32)
    assert decode(words.tokens([long]).ids[0]) == "[INST]  [/INST]"


def test_the_released_way_to_find_the_text_can_be_off_by_one(llama_folder):
    """`llm2vec:embed-mask`: "cat" alone has more tokens here than " cat" after an instruction."""
    right, quirk = (load(str(llama_folder), compat=c, **FP32) for c in ("", "llm2vec:embed-mask"))
    tokenizer = right.backbone.tokenizer
    words = ["cat", "window", "rain", "sentence", "the", "playing"]
    off = [w for w in words if len(tokenizer(w)["input_ids"]) != len(tokenizer(f" {w}")["input_ids"])]
    assert off
    a, b = (e.tokens(off, instruction=SAID) for e in (right, quirk))
    assert a.ids == b.ids
    for word, (start, end), (released, last) in zip(off, a.pooled, b.pooled):
        assert end == last
        assert end - start == len(tokenizer(f" {word}")["input_ids"])
        assert end - released == len(tokenizer(word)["input_ids"]) != end - start
    assert distance(right.encode(off, instruction=SAID), quirk.encode(off, instruction=SAID)) > 1e-3
    assert distance(right.encode(off), quirk.encode(off)) < 1e-6


def test_an_encoder_is_refused(bert_folder):
    with pytest.raises(InputError, match="LLM2Vec is for decoders"):
        load(str(bert_folder), **FP32)


# ------------------------------ chat templates and what is pooled


@pytest.mark.parametrize(("suffix", "pooled"), [(None, "text_and_suffix"), (True, "text_and_suffix"), (False, "text")])
def test_the_suffix_is_pooled_unless_it_is_not_to_be(bos_llama_folder, suffix, pooled):
    encoder = load(str(bos_llama_folder), chat_template="mistral", pool_chat_suffix=suffix, **FP32)
    assert encoder.pooled == pooled
    text = "a black cat"
    full = f"[INST] {text} [/INST]"
    tokenizer = encoder.backbone.tokenizer
    start = len(tokenizer("[INST]")["input_ids"])
    end = len(tokenizer(f"[INST] {text}")["input_ids"]) if suffix is False else None
    assert distance(encoder.encode(text), states(bos_llama_folder, full)[start:end].mean(0)) < 1e-5


def test_a_chat_template_moves_with_the_model(llama_folder, tmp_path):
    first = load(str(llama_folder), chat_template="llama-3", pool_chat_suffix=False, doc_max_length=0, **FP32)
    first.save_pretrained(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    by_name = load_by_name("llm2vec", str(tmp_path / "b"), **FP32)
    for again in (by_name, load(str(tmp_path / "b"), **FP32)):
        assert again.templates == first.templates
        assert (again.pooled, again.max_text_length) == ("text", None)
        for said in (None, SAID):
            assert distance(again.encode(TEXTS, instruction=said), first.encode(TEXTS, instruction=said)) < 1e-6


@pytest.mark.parametrize(
    ("chat", "end"), [(None, "<|end|>"), ("mistral", " [/INST]<|end|>"), ("qwen2", "<|endoftext|>")]
)
def test_eos_pooling_puts_an_end_behind_every_text_once(llama_folder, tmp_path, chat, end):
    encoder = load(str(llama_folder), pooling="eos_token", chat_template=chat, **FP32)
    assert encoder.pooling == "last"
    assert encoder.info.template.endswith(end)
    read = encoder.templates["text"].render("rain").full
    assert distance(encoder.encode("rain"), states(llama_folder, read)[-1]) < 1e-5
    encoder.save_pretrained(tmp_path / "saved")
    for pooling in (None, "eos_token"):
        assert load(str(tmp_path / "saved"), pooling=pooling, **FP32).templates == encoder.templates
    assert load(str(llama_folder), pooling="last_token", chat_template=chat, **FP32).templates != encoder.templates


# ------------------------------ released models


def test_the_released_models_are_known():
    known = read_checkpoints(CHECKPOINTS)
    names = [name for name in known if name.startswith("McGill-NLP/")]
    assert len(names) == 15
    for name in names:
        entry = known[name]
        assert entry.adapter[-1] == name
        below = re.sub(r"-(unsup-simcse|supervised)$", "", name)
        assert entry.adapter[:-1] == ((below,) if below != name else ())
        assert entry.options["pooling"] == "mean"
        assert set(entry.options) <= {"pooling", "chat_template"}
    chats = {name: entry.options.get("chat_template") for name, entry in known.items()}
    assert {c for c in chats.values() if c} == set(CHAT_TEMPLATES)
    assert chats["McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp-supervised"] is None
    assert chats["McGill-NLP/LLM2Vec-Meta-Llama-31-8B-Instruct-mntp"] is None
    assert chats["McGill-NLP/LLM2Vec-Mistral-7B-Instruct-v2-mntp-unsup-simcse"] == "mistral"
    bases = yaml.safe_load(CHECKPOINTS.read_text("utf-8"))
    assert all(entry["base"] not in names for entry in bases.values())


MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
MNTP = "McGill-NLP/LLM2Vec-Mistral-7B-Instruct-v2-mntp"


@pytest.mark.parametrize(
    ("model", "adapter"),
    [
        (f"{MNTP}-supervised", None),
        (None, f"{MNTP}-supervised"),
        (MISTRAL, f"{MNTP}-supervised"),
        (MNTP, f"{MNTP}-supervised"),
        (MISTRAL, [MNTP, f"{MNTP}-supervised"]),
    ],
)
def test_a_released_adapter_never_comes_without_those_below_it(model, adapter):
    known = known_model(CHECKPOINTS, model, adapter)
    assert (known.base, known.adapter) == (MISTRAL, (MNTP, f"{MNTP}-supervised"))
    assert known.options["chat_template"] == "mistral"


def test_a_local_folder_is_no_released_model_whatever_its_name(llama_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(llama_folder, tmp_path / MISTRAL)
    assert load(MISTRAL, **FP32).info.template == "{instruction} {text}"
    assert known_model(CHECKPOINTS, MISTRAL, None).options == {}


def test_a_folder_with_config_and_adapter_is_its_base_with_the_adapter(llama_folder, released):
    mntp, simcse = released
    expected = torch.stack([states(llama_folder, t, [mntp]).mean(0) for t in TEXTS])
    assert distance(load(str(mntp), **FP32).encode(TEXTS), expected) < 1e-5
    assert distance(load(str(llama_folder), **FP32).encode(TEXTS), expected) > 1e-2
    stacked = torch.stack([states(llama_folder, t, [mntp, simcse]).mean(0) for t in TEXTS])
    encoder = load(str(mntp), adapter=str(simcse), **FP32)
    assert distance(encoder.encode(TEXTS), stacked) < 1e-5
    assert encoder.info.model == str(llama_folder)
    assert (encoder.info.adapter, encoder.backbone.merged) == ((str(mntp), str(simcse)), (str(mntp),))
    assert distance(load(str(llama_folder), adapter=[str(mntp), str(simcse)], **FP32).encode(TEXTS), stacked) < 1e-5


@pytest.mark.parametrize("how", ["model", "adapter", "both", "registry", "encoder"])
def test_a_saved_adapter_brings_those_below_it(llama_folder, released, tmp_path, how):
    first = load(str(released[0]), adapter=str(released[1]), chat_template="mistral", **FP32)
    first.save_pretrained(tmp_path / "saved")
    folder = str(tmp_path / "saved")
    again = {
        "model": lambda: load(folder, **FP32),
        "adapter": lambda: load(adapter=folder, **FP32),
        "both": lambda: load(str(llama_folder), adapter=folder, **FP32),
        "registry": lambda: load_by_name("llm2vec", folder, **FP32),
        "encoder": lambda: Encoder.from_pretrained(folder, **FP32),
    }[how]()
    assert again.info.template == first.info.template == "[INST] {instruction} {text} [/INST]"
    assert distance(again.encode(TEXTS, instruction=SAID), first.encode(TEXTS, instruction=SAID)) < 1e-5
    assert get_attention(again.backbone.model) == "bidirectional"


# ------------------------------ plain sentence-transformers


@pytest.mark.parametrize("kind", ["llama", "bos_llama"])
@pytest.mark.parametrize("merge", [False, True])
def test_a_merged_model_opens_in_plain_sentence_transformers(request, released, tmp_path, kind, merge):
    adapter = {"adapter": str(released[0])} if merge else {}
    encoder = load(str(request.getfixturevalue(f"{kind}_folder")), **adapter, **FP32)
    encoder.save_pretrained(tmp_path / "saved", merge=True)
    assert distance(sentence_transformer(tmp_path / "saved").encode(TEXTS), encoder.encode(TEXTS)) < 1e-5
    assert not list((tmp_path / "saved").rglob("*.py"))


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
def test_the_golden_models_open_in_plain_sentence_transformers(golden, tmp_path, family):
    encoder = load(str(golden / f"tiny_{family}"), **FP32)
    texts = ["w1 w2 w3", "w20", "w7 w7 w60 w2 w9 w11 w30"]
    encoder.save_pretrained(tmp_path / "saved", merge=True)
    assert distance(sentence_transformer(tmp_path / "saved").encode(texts), encoder.encode(texts)) < 1e-5


@pytest.mark.shared
@pytest.mark.parametrize("name", ["stories260K", "stories15M"])
def test_trained_llamas_open_in_plain_sentence_transformers(shared, tmp_path, name):
    encoder = load(str(shared / "models" / name), **FP32)
    encoder.save_pretrained(tmp_path / "saved", merge=True)
    theirs = sentence_transformer(tmp_path / "saved")
    vectors = encoder.encode(TEXTS)
    assert distance(theirs.encode(TEXTS), vectors) < 1e-5
    pooled_too = load(str(shared / "models" / name), skip_instruction=False, **FP32)
    assert distance(pooled_too.encode(TEXTS), vectors) > 1e-2  # <s> is really left out


@pytest.mark.weights
@pytest.mark.slow
def test_the_embedded_default_opens_in_plain_sentence_transformers(weights, tmp_path):
    encoder = load(**FP32)
    assert encoder.info.model == weights[0]
    encoder.save_pretrained(tmp_path / "saved", merge=True)
    # Compared in fp64: untrained, this model in fp32 is up to 1.4e-5 from itself in fp64, with whichever kernels.
    ours = Encoder.from_pretrained(tmp_path / "saved", device="cpu", dtype=torch.float64)
    theirs = sentence_transformer(tmp_path / "saved", torch.float64)
    assert distance(theirs.encode(TEXTS), ours.encode(TEXTS)) < 1e-6
    assert distance(theirs.encode(TEXTS), encoder.encode(TEXTS)) < 5e-5


def test_a_chat_template_is_refused_by_name(bos_llama_folder):
    encoder = load(str(bos_llama_folder), chat_template="mistral", max_length=200, doc_max_length=0, **FP32)
    with pytest.raises(InputError, match="a template around the text, with pooled 'text_and_suffix'; pooled='all'"):
        encoder.to_sentence_transformer()
    encoder = load(str(bos_llama_folder), chat_template="mistral", doc_max_length=0, skip_instruction=False, **FP32)
    assert distance(encoder.to_sentence_transformer().encode(TEXTS), encoder.encode(TEXTS)) < 1e-5


# ------------------------------ compat


def test_every_quirk_in_the_code_is_described_once_and_every_description_is_used():
    files = [f for folder in ("common", "llm2vec") for f in (REPO / folder).rglob("*.py") if f.name != "compat.py"]
    named = {name for file in files for name in re.findall(r'"(llm2vec:[a-z-]+)"', file.read_text("utf-8"))}
    assert named == set(COMPAT)


def test_the_switches_are_registered(llama_folder):
    with pytest.raises(InputError, match="did you mean 'llm2vec:embed-mask'"):
        load(str(llama_folder), compat="llm2vec:embedmask", **FP32)
    assert np.isfinite(load(str(llama_folder), compat=list(COMPAT), **FP32).encode("rain")).all()
