"""angle/face.py: the interface of the released package over our encoder."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from angle import AnglE, Prompts
from common.errors import InputError
from common.reading import SHIPPED, read_rows

TEXTS = ["A man is playing the flute.", "Rain fell on the roof all night.", "hello"]


@pytest.fixture
def angle(llama_folder) -> AnglE:
    return AnglE.from_pretrained(str(llama_folder), torch_dtype="float32", device="cpu")


def shipped_pairs(count: int) -> list[dict]:
    rows = [row for _, row in read_rows(SHIPPED / "pairs.jsonl")][:count]
    return [{"text1": row["text1"], "text2": row["text2"], "label": row["score"] / 5} for row in rows]


def test_importing_the_package_is_cheap():
    code = "import sys, angle; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(ImportError):
        exec("from angle import Angle")


def test_shapes_and_types(angle):
    assert angle.encode(TEXTS[0]).shape == (1, 32)
    assert angle.encode({"text": TEXTS[0]}).shape == (1, 32)
    assert angle.encode([]).shape == (0, 32)
    vectors = angle.encode(TEXTS)
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    tensor = angle.encode(TEXTS, to_numpy=False)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.device == angle.device
    np.testing.assert_array_equal(tensor.numpy(), vectors)


def test_dicts_and_texts_are_the_same_and_the_list_stays_as_it_is(angle):
    inputs = [{"text": text} for text in TEXTS]
    angle.set_prompt(prompt=Prompts.A)
    np.testing.assert_array_equal(angle.encode(inputs), angle.encode(TEXTS))
    assert inputs == [{"text": text} for text in TEXTS]


def test_without_a_prompt_texts_go_in_as_they_are(angle):
    by_hand = [Prompts.A.format(text=text) for text in TEXTS]
    bare = angle.encode(by_hand)
    assert angle.prompt is None
    np.testing.assert_allclose(angle.encode(TEXTS, prompt=Prompts.A), bare, atol=1e-6)
    angle.set_prompt()
    assert angle.prompt == Prompts.A
    np.testing.assert_allclose(angle.encode(TEXTS), bare, atol=1e-6)
    assert np.abs(angle.encode(TEXTS, prompt="{text}") - bare).max() > 1e-2
    angle.set_prompt(prompt=None)
    assert np.abs(angle.encode(TEXTS) - bare).max() > 1e-2


def test_a_deprecation_is_one_line_and_a_bad_prompt_is_refused_at_once(angle, caplog):
    with caplog.at_level(logging.WARNING):
        angle.set_prompt()
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    with pytest.raises(InputError, match=r"needs \{text\}"):
        angle.set_prompt(prompt="no place for it")
    assert angle.prompt == Prompts.A


def test_a_part_of_the_vector_and_normalising(angle):
    whole = angle.encode(TEXTS)
    np.testing.assert_array_equal(angle.encode(TEXTS, embedding_start=4, embedding_size=8), whole[:, 4:12])
    np.testing.assert_array_equal(angle.encode(TEXTS, embedding_start=30), whole[:, 30:])
    part = angle.encode(TEXTS, embedding_size=8, normalize_embedding=True)
    np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-6)
    for wrong in ({"embedding_start": 32}, {"embedding_start": -1}, {"embedding_size": 0}):
        with pytest.raises(InputError, match="no part of 32"):
            angle.encode(TEXTS, **wrong)


def test_a_length_for_one_call(angle):
    text = " ".join(TEXTS)
    short = angle.encode(text, max_length=8)
    ids = angle.tokenizer(text)["input_ids"]
    assert len(ids) > 8
    np.testing.assert_allclose(short, angle.encode(angle.tokenizer.decode(ids[:8])), atol=1e-6)
    assert np.abs(angle.encode(text) - short).max() > 1e-2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([TEXTS[0], None], r"texts\[1\]"),
        ([{"txt": "hello"}], r"inputs\[0\].*'text'"),
        ([{"text": "hello", "obj": "x"}], r"inputs\[0\]"),
        (b"hello", "bytes"),
        (7, "int"),
    ],
)
def test_bad_inputs(angle, inputs, words):
    with pytest.raises(InputError, match=words):
        angle.encode(inputs)


def test_unknown_arguments_are_refused_with_the_nearest(angle, llama_folder):
    with pytest.raises(InputError, match=r"normalize_embeding is not known.*normalize_embedding"):
        angle.encode(TEXTS, normalize_embeding=True)
    with pytest.raises(InputError, match=r"poolin_strategy is not known.*pooling_strategy"):
        AnglE.from_pretrained(str(llama_folder), poolin_strategy="last")
    with pytest.raises(InputError, match=r"apply_billm is not supported.*BeLLM"):
        AnglE.from_pretrained(str(llama_folder), apply_billm=True)
    with pytest.raises(InputError, match="load_kbit=5"):
        AnglE.from_pretrained(str(llama_folder), load_kbit=5)
    with pytest.raises(InputError, match="is_llm 0"):
        AnglE.from_pretrained(str(llama_folder), is_llm=False)


def test_arguments_without_effect_are_accepted(angle, llama_folder):
    same = AnglE.from_pretrained(
        str(llama_folder),
        torch_dtype=torch.float32,
        tokenizer_padding_side="left",
        apply_billm=False,
        device="cpu",
    ).cuda()
    np.testing.assert_array_equal(same.encode(TEXTS, padding="longest"), angle.encode(TEXTS))


def test_prompt_and_pooling_are_saved_and_come_back(angle, llama_folder, tmp_path):
    angle = AnglE.from_pretrained(str(llama_folder), pooling_strategy="cls_avg", torch_dtype="float32", device="cpu")
    angle.set_prompt("B")
    angle.save_pretrained(tmp_path / "saved")
    again = AnglE.from_pretrained(str(tmp_path / "saved"), torch_dtype="float32", device="cpu")
    assert again.prompt == Prompts.B
    assert again.encoder.pooling == "cls_avg"
    np.testing.assert_allclose(again.encode(TEXTS), angle.encode(TEXTS), atol=1e-6)
    with pytest.raises(InputError, match="exists already"):
        angle.save_pretrained(tmp_path / "saved", exist_ok=False)


def test_evaluate_is_spearman_of_cosine(angle):
    rows = shipped_pairs(40)
    a, b = (angle.encode([row[c] for row in rows], normalize_embedding=True) for c in ("text1", "text2"))
    want = spearmanr((a * b).sum(axis=1), [row["label"] for row in rows]).statistic
    assert angle.evaluate(rows) == pytest.approx(want, abs=1e-4)
    with pytest.raises(InputError, match="did you mean spearman_cosine"):
        angle.evaluate(rows, metric="spearman")
    with pytest.raises(InputError, match="needs text1, text2, label"):
        angle.evaluate([{"query": "hello", "positive": "hi"}])
    with pytest.raises(InputError, match=r"ds\[1\].*label"):
        angle.evaluate([rows[0], {**rows[1], "label": "high"}])


def test_fit_trains_and_saves(llama_folder, tmp_path: Path):
    angle = AnglE.from_pretrained(
        str(llama_folder),
        torch_dtype="float32",
        device="cpu",
        lora_config_kwargs={"r": 2, "lora_dropout": 0.0},
    )
    before = angle.encode(TEXTS)
    rows = shipped_pairs(8)
    angle.fit(
        rows,
        rows,
        output_dir=tmp_path / "out",
        text_prompt=Prompts.A,
        loss_kwargs={"w1": 1.0, "w2": 0.0, "w3": 1.0, "cosine_tau": 20.0},
        batch_size=4,
        epochs=2,
        learning_rate=1e-2,
        warmup_steps=0,
    )
    assert angle.prompt == Prompts.A
    assert angle.backbone.peft_config["default"].r == 2
    assert np.abs(angle.encode(TEXTS, prompt="{text}") - before).max() > 1e-4
    again = AnglE.from_pretrained(str(tmp_path / "out"), torch_dtype="float32", device="cpu")
    assert again.prompt == Prompts.A
    np.testing.assert_allclose(again.encode(TEXTS), angle.encode(TEXTS), atol=1e-5)
    with pytest.raises(InputError, match=r"batchsize is not known.*batch_size"):
        angle.fit(rows, output_dir=tmp_path / "out2", batchsize=4)
