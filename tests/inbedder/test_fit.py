"""Training: it learns, its shuffled twin does not; what is saved gives the same vectors and answers; resuming."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from common.data import RowList, load_rows
from common.errors import InputError
from common.recipe import TrainConfig
from common.registry import get, load, resolve_attribute
from common.saving import save_into
from common.training import shuffle_positives
from inbedder.fit import fit, measured, model_of
from inbedder.mode_encoder import ModeEncoder
from inbedder.recipe import InbedderConfig

WHERE, WHO = ("park", "window", "mat", "mountains"), ("cat", "men", "weather", "researchers")
QUESTIONS = {"Who?": 0, "Where?": 1}


def qa(count: int, seed: int) -> RowList:
    """Questions that the text answers: who, or where; the answer depends on both."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        pair = (draw.choice(WHO), draw.choice(WHERE))
        question = draw.choice(list(QUESTIONS))
        rows.append({"instruction": question, "input": " ".join(pair), "output": pair[QUESTIONS[question]]})
    return RowList(rows, "mem")


def config(folder: Path, **changes: Any) -> InbedderConfig:
    return InbedderConfig(
        **{
            "output_dir": folder,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "max_steps": 40,
            "bf16": False,
            "logging_steps": 20,
            "save_strategy": "no",
            "save_minutes": None,
            **changes,
        }
    )


def tiny(folder: Path, **options: Any) -> Any:
    return load("inbedder", str(folder), dtype="float32", device="cpu", **options)


# -- learning ----------------------------------------------------------------------------------------------


def test_it_learns_and_its_shuffled_twin_does_not(llama_folder: Path, tmp_path: Path) -> None:
    train, held_out = qa(320, 0), qa(64, 1)
    last = {}
    for shuffled in (False, True):
        folder = tmp_path / str(shuffled)
        fit(tiny(llama_folder), train, config(folder, shuffle_answers=shuffled, max_steps=80), valid=held_out)
        found = measured(folder)
        assert [entry["step"] for entry in found] == [0, 80]
        assert found[0]["loss"] > 3  # the random model's
        last[shuffled] = found[-1]
    # Its answers are a mixture of all of them: it can't be better than guessing one of 8 words.
    assert last[True]["loss"] > last[False]["loss"] + 0.3
    assert last[True]["accuracy"] < 0.75 * last[False]["accuracy"] + 0.01
    encoder = tiny(tmp_path / "False")
    asked = [(row["input"], row["instruction"], row["output"]) for row in held_out.rows]
    answers = ModeEncoder(encoder).answers([a[0] for a in asked], instruction=[a[1] for a in asked])
    right = np.mean([answer == expected for answer, (_, _, expected) in zip(answers, asked)])
    assert right > 0.3


def test_masked_models_learn(folders: dict[str, Path], tmp_path: Path) -> None:
    fit(tiny(folders["roberta"]), qa(320, 0), config(tmp_path, max_steps=60), valid=qa(64, 1))
    found = measured(tmp_path)
    assert found[-1]["loss"] < 0.6 * found[0]["loss"]


def test_shuffled_answers_are_those_of_all_rows() -> None:
    rows = qa(200, 0)
    found = shuffle_positives(rows, 3)
    assert sorted(r["output"] for r in found.rows) == sorted(r["output"] for r in rows.rows)
    assert [{**r, "output": ""} for r in found.rows] == [{**r, "output": ""} for r in rows.rows]
    same = np.mean([a["output"] == b["output"] for a, b in zip(found.rows, rows.rows)])
    assert same < 0.35  # 1 in 8 by chance
    assert found.rows == shuffle_positives(rows, 3).rows


# -- saving ------------------------------------------------------------------------------------------------

KINDS = [
    ("llama", {}),
    ("opt", {}),
    ("roberta", {}),
    ("tied", {}),
    ("llama", {"apply_lora": True}),
    ("llama", {"apply_lora": True, "merge": True}),
    ("roberta", {"apply_lora": True, "merge": True}),
]


@pytest.mark.parametrize(("name", "changes"), KINDS, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "all")
def test_the_saved_folder_gives_vectors_and_answers(
    name: str, changes: dict[str, Any], folders: dict[str, Path], llama_folder: Path, tmp_path: Path
) -> None:
    base = llama_folder if name == "tied" else folders[name]
    encoder = tiny(base)
    texts, asked = ["cat park", "men window"], {"instruction": "Where?"}
    untrained = encoder.encode(texts, **asked)
    fit(encoder, qa(64, 0), config(tmp_path, max_steps=8, **changes))
    vectors, answers = encoder.encode(texts, **asked), ModeEncoder(encoder).answers(texts, **asked)
    assert abs(vectors - untrained).max() > 1e-2
    opened = tiny(tmp_path)
    np.testing.assert_allclose(opened.encode(texts, **asked), vectors, atol=2e-5)
    assert opened.templates == encoder.templates
    assert opened.info.method == "inbedder"
    # The head is the trained one, in memory and in the folder, for generation as for the logits themselves.
    assert ModeEncoder(opened).answers(texts, **asked) == answers
    states = torch.randn(3, encoder.dim)
    with torch.no_grad():
        logits = [logits_of(one, states) for one in (encoder, opened, tiny(base))]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)
    head_learned = "apply_lora" not in changes
    assert ((logits[0] - logits[2]).abs().max() > 1e-3) == head_learned


def logits_of(encoder: Any, states: torch.Tensor) -> torch.Tensor:
    head = ModeEncoder(encoder).head
    return head(states) if not encoder.backbone.is_decoder else head(states, encoder.backbone.model)


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_plain_transformers_opens_the_folder_with_its_head(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = tiny(folders[name])
    fit(encoder, qa(64, 0), config(tmp_path, max_steps=4))
    factory: Any = AutoModelForCausalLM if name == "llama" else AutoModelForMaskedLM
    whole, report = factory.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    ids = torch.tensor(encoder.tokenize(["cat park"], instruction="Where?"))
    assert AutoTokenizer.from_pretrained(tmp_path)("x")["input_ids"]
    with torch.no_grad():
        states = encoder.backbone.model(ids).last_hidden_state[0]
        torch.testing.assert_close(whole.eval()(ids).logits[0], logits_of(encoder, states), atol=1e-4, rtol=1e-4)


def test_weights_gathered_from_processes_are_saved_as_the_models_own(folders: dict[str, Path], tmp_path: Path) -> None:
    """As FSDP and DeepSpeed hand them over: by the names of the training module."""
    encoder = tiny(folders["llama"])
    model = model_of(encoder, train_head=True)
    gathered = {k.removeprefix("trunk."): v + 1 for k, v in model.state_dict().items()}
    save_into(encoder, tmp_path, state_dict=gathered)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(whole.lm_head.weight, model.head.linear.weight + 1)  # type: ignore[operator,union-attr]
    own = encoder.backbone.model.get_input_embeddings().weight  # type: ignore[operator]
    torch.testing.assert_close(whole.get_input_embeddings().weight, own + 1)


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_resuming_goes_on_as_if_nothing_had_been(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """Head, optimiser and order of rows come back."""
    texts = {"texts": ["cat park"], "instruction": "Where?"}
    whole = tiny(folders[name])
    fit(whole, qa(96, 0), config(tmp_path / "whole", max_steps=6))
    steps = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    broken = tmp_path / "broken"
    fit(tiny(folders[name]), qa(96, 0), config(broken, stop_after_n_steps=3, **steps))
    recipe = json.loads((broken / "checkpoint-3" / "training.json").read_text())
    recipe["recipe"]["stop_after_n_steps"] = None  # as if it had been killed
    (broken / "checkpoint-3" / "training.json").write_text(json.dumps(recipe))
    (broken / "training.json").unlink()
    resumed = tiny(folders[name])
    fit(resumed, qa(96, 0), config(broken, **steps))
    np.testing.assert_allclose(resumed.encode(**texts), whole.encode(**texts), atol=1e-5)
    states = torch.randn(2, whole.dim)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(resumed, states), logits_of(whole, states), atol=1e-5, rtol=1e-5)
    # A finished one is only loaded.
    again = tiny(folders[name])
    fit(again, qa(96, 0), config(broken, **steps))
    np.testing.assert_allclose(again.encode(**texts), whole.encode(**texts), atol=1e-5)


# -- through the registry, and wrong use -------------------------------------------------------------------


def test_the_registry_trains_on_triplets_with_the_shared_recipe(llama_folder: Path, tmp_path: Path) -> None:
    """As `python -m benchmarks quickstart` does."""
    encoder = tiny(llama_folder)
    recipe = TrainConfig(
        output_dir=tmp_path, batch_size=8, max_tokens=2500, learning_rate=2e-3, warmup_steps=0.1, lora_dropout=0.0,
        save_strategy="no", save_minutes=None, resume=False, bf16=False, logging_steps=1,
    )  # fmt: skip
    rows = load_rows("shipped:triplets", limit=64)
    resolve_attribute(str(get("inbedder").fit))(encoder, rows, recipe)
    summary = json.loads((tmp_path / "training.json").read_text())
    assert 2500 <= summary["tokens"] < 4000
    assert (tmp_path / "adapter_model.safetensors").is_file()  # LoRA, as for every decoder there
    np.testing.assert_allclose(tiny(tmp_path).encode(["a cat"]), encoder.encode(["a cat"]), atol=1e-5)


def test_wrong_use(folders: dict[str, Path], llama_folder: Path, tmp_path: Path) -> None:
    recipe = config(tmp_path)
    with pytest.raises(InputError, match="hold no answers"):
        fit(tiny(llama_folder), RowList([{"text1": "a", "text2": "b", "label": 1.0}] * 32, "mem"), recipe)
    with pytest.raises(InputError, match="fewer than one batch"):
        fit(tiny(llama_folder), qa(3, 0), recipe)
    with pytest.raises(InputError, match="convention 'pair'"):
        fit(tiny(folders["roberta"], convention="pair"), qa(32, 0), recipe)
