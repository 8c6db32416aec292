"""Token ids and labels, exactly, and the loss against a plain cross entropy over the whole vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from common import token_objective
from common.encoder import Encoder
from common.errors import InputError
from common.model_names import resolve
from common.token_objective import IGNORED
from inbedder.encoder import load
from inbedder.fit import model_of
from inbedder.prompts import ALPACA, NO_INPUT, PATTERN
from inbedder.qa_collator import AnswerCollator

ROWS: list[dict[str, Any]] = [
    {"instruction": "What sat there?", "input": "The cat sat on the mat.", "output": "a black cat"},
    {"instruction": "Where?", "input": "Two men are playing chess in the park near the window.", "output": "park"},
    {"instruction": "Which {text} game?", "input": "", "output": "chess"},
    {"instruction": "Which game is it?", "input": "{instruction} {text}", "output": '"chess"'},
]


def items(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return list(enumerate(rows))


def text_of(row: dict[str, Any]) -> str:
    pattern = PATTERN if row["input"] else NO_INPUT
    before, after = pattern.split("{instruction}")
    return before.replace("{input}", row["input"]) + row["instruction"] + after


@pytest.fixture(params=["bos_llama", "opt", "llama"])
def causal(request: pytest.FixtureRequest, folders: dict[str, Path], bos_llama_folder: Path) -> Encoder:
    """With BOS or without, tied and untied, byte-level and word-level tokenizers."""
    folder = bos_llama_folder if request.param == "bos_llama" else folders[request.param]
    return load(str(folder), dtype="float32", device="cpu")


@pytest.fixture
def masked(folders: dict[str, Path]) -> Encoder:
    return load(str(folders["roberta"]), dtype="float32", device="cpu")


# -- ids and labels ----------------------------------------------------------------------------------------


def test_causal_ids_are_prompt_answer_and_end(causal: Encoder) -> None:
    tokenizer: Any = causal.backbone.tokenizer
    batch = AnswerCollator(causal)(items(ROWS))
    for i, row in enumerate(ROWS):
        length = batch["lengths"][i]
        ids, labels = batch["input_ids"][i].tolist(), batch["labels"][i].tolist()
        prompt = tokenizer(text_of(row))["input_ids"]
        start = len(prompt)
        assert ids[:start] == prompt
        assert labels[:start] == [IGNORED] * start
        assert ids[start:length] == labels[start:length]
        assert ids[length - 1] == tokenizer.eos_token_id
        assert ids[start : length - 1]
        assert labels[length:] == [IGNORED] * (len(labels) - length)
        assert batch["attention_mask"][i].sum() == length
        if row["input"]:
            assert prompt == causal.tokenize([row["input"]], instruction=row["instruction"])[0]


def test_the_answer_is_what_the_tokenizer_reads_behind_the_prompt(causal: Encoder) -> None:
    """The released code's ids, tok(source + answer + EOS), wherever the boundary is between two tokens."""
    tokenizer: Any = causal.backbone.tokenizer
    same = 0
    for number, row in items(ROWS):
        ids, _ = AnswerCollator(causal).ids(number, row)
        prompt = tokenizer(text_of(row))["input_ids"]
        whole = tokenizer(text_of(row) + row["output"])["input_ids"]
        if whole[: len(prompt)] == prompt:
            same += 1
            assert ids == [*whole, tokenizer.eos_token_id]
        else:
            assert ids[len(prompt) : -1] == tokenizer(row["output"], add_special_tokens=False)["input_ids"]
    assert same >= 2


def test_a_boundary_that_the_tokenizer_would_join(weights: tuple[str, str], llama_folder: Path) -> None:
    """':"' is one token of SmolLM2; behind a prompt that ends in ":" the answer begins with a quotation mark."""
    encoder = load(str(llama_folder), dtype="float32", device="cpu")
    encoder.backbone.tokenizer = AutoTokenizer.from_pretrained(resolve(weights[0]).path)
    tokenizer: Any = encoder.backbone.tokenizer
    row = ROWS[3]
    prompt = tokenizer(text_of(row))["input_ids"]
    assert tokenizer(text_of(row) + row["output"])["input_ids"][: len(prompt)] != prompt
    ids, labels = AnswerCollator(encoder).ids(0, row)
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(ids[len(prompt) :]) == f'"chess"{tokenizer.eos_token}'
    assert labels == [IGNORED] * len(prompt) + ids[len(prompt) :]


def test_masked_ids_have_a_mask_for_each_token_of_the_answer(masked: Encoder) -> None:
    tokenizer: Any = masked.backbone.tokenizer
    for number, row in items(ROWS[:3]):
        ids, labels = AnswerCollator(masked).ids(number, row)
        original = tokenizer(text_of(row) + row["output"])["input_ids"]
        start = len(tokenizer(text_of(row))["input_ids"]) - 1  # without </s>
        count = len(original) - start - 1
        assert count >= 1
        assert ids == original[:start] + [tokenizer.mask_token_id] * count + original[-1:]
        assert labels == [IGNORED] * start + original[start:-1] + [IGNORED]
        if row["input"]:
            read = masked.tokenize([row["input"]], instruction=row["instruction"])[0]
            assert read == ids[:start] + [tokenizer.mask_token_id] * 3 + ids[-1:]


def test_one_of_several_answers_is_drawn_by_seed_and_row(causal: Encoder) -> None:
    row = {**ROWS[0], "output": ["a black cat", "park", "chess"]}
    drawn = [AnswerCollator(causal, 5).ids(n, row)[0] for n in range(12)]
    assert drawn == [AnswerCollator(causal, 5).ids(n, row)[0] for n in range(12)]
    assert {tuple(ids) for ids in drawn} == {
        tuple(AnswerCollator(causal).ids(0, {**row, "output": output})[0]) for output in row["output"]
    }


def test_the_text_gives_way_to_question_and_answer(folders: dict[str, Path]) -> None:
    encoder = load(str(folders["llama"]), dtype="float32", device="cpu", max_length=60)
    tokenizer: Any = encoder.backbone.tokenizer
    row = {"instruction": "What sat there?", "input": "the cat sat on the mat " * 40, "output": "a black cat"}
    collator = AnswerCollator(encoder)
    ids, labels = collator.ids(0, row)
    assert 56 <= len(ids) <= 60
    assert collator.shortened == 1
    decoded = tokenizer.decode(ids)
    assert "What sat there?" in decoded
    assert decoded.rstrip().endswith(tokenizer.eos_token)
    kept = [label for label in labels if label != IGNORED]
    assert kept == collator.ids(0, {**row, "input": "x"})[0][-len(kept) :]  # the whole answer
    # A question that is too long goes without the text, shortened; an answer takes at most half.
    ids, labels = collator.ids(0, {**row, "instruction": "what sat there and where " * 40})
    assert len(ids) <= 60
    assert [label for label in labels if label != IGNORED] == kept
    encoder = load(str(folders["llama"]), dtype="float32", device="cpu", max_length=100)
    ids, labels = AnswerCollator(encoder).ids(0, {**row, "output": "black cat " * 60})
    assert 96 <= len(ids) <= 100
    assert sum(label != IGNORED for label in labels) == 51  # and the end token


def test_alpaca_order_changes_training_and_not_reading(folders: dict[str, Path]) -> None:
    plain = load(str(folders["llama"]), dtype="float32", device="cpu")
    other = load(str(folders["llama"]), dtype="float32", device="cpu", compat="inbedder:alpaca-order")
    tokenizer: Any = plain.backbone.tokenizer
    row = ROWS[0]
    prompt = ALPACA.replace("{input}", row["input"]).replace("{instruction}", row["instruction"])
    ids = tokenizer(prompt)["input_ids"]
    assert AnswerCollator(other).ids(0, row)[0][: len(ids)] == ids
    assert AnswerCollator(plain).ids(0, row)[0][: len(ids)] != ids
    assert AnswerCollator(other).ids(0, ROWS[2]) == AnswerCollator(plain).ids(0, ROWS[2])
    assert plain.tokenize(["a cat"], instruction="Who?") == other.tokenize(["a cat"], instruction="Who?")


def test_a_template_without_a_place_for_the_question(folders: dict[str, Path]) -> None:
    encoder = load(str(folders["llama"]), dtype="float32", device="cpu", template="Summarise: {text}")
    with pytest.raises(InputError, match=r"needs a place for the \{instruction\}"):
        AnswerCollator(encoder)


def test_a_template_of_ones_own(folders: dict[str, Path]) -> None:
    encoder = load(str(folders["llama"]), dtype="float32", device="cpu", template="{instruction}\n{text}\nanswer:")
    tokenizer: Any = encoder.backbone.tokenizer
    for row, prompt in (
        (ROWS[0], "What sat there?\nThe cat sat on the mat.\nanswer:"),
        (ROWS[1] | {"input": ""}, "Where?\n\nanswer:"),
    ):
        ids = tokenizer(prompt)["input_ids"]
        assert AnswerCollator(encoder).ids(0, row)[0][: len(ids)] == ids


# -- the loss ----------------------------------------------------------------------------------------------


def test_causal_loss_is_the_plain_one_over_all_positions(causal: Encoder) -> None:
    batch = AnswerCollator(causal)(items(ROWS))
    whole = AutoModelForCausalLM.from_pretrained(causal.backbone.source.path, dtype=torch.float32).eval()
    model = model_of(causal, train_head=True).eval()
    seen: list[int] = []
    model.head.register_forward_hook(lambda head, inputs, output: seen.append(len(inputs[0])))
    with torch.no_grad():
        found, count, right = model(**batch)
        logits = whole(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    expected = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert int(count) == int((targets != IGNORED).sum()) == sum(seen)  # the head ran at the answers alone
    assert int(right) == int((logits.argmax(-1) == targets).sum())


def test_masked_loss_is_the_plain_one(masked: Encoder) -> None:
    batch = AnswerCollator(masked)(items(ROWS[:3]))
    whole = AutoModelForMaskedLM.from_pretrained(masked.backbone.source.path, dtype=torch.float32).eval()
    model = model_of(masked, train_head=True).eval()
    with torch.no_grad():
        found, count, _ = model(**batch)
        logits = whole(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert int(count) == int((batch["labels"] != IGNORED).sum())


def test_rows_of_any_length_are_as_alone(causal: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(token_objective.WORTH_TOKENS, "cpu", 10**9)  # one padded group
    collator, model = AnswerCollator(causal), model_of(causal, train_head=True).eval()
    with torch.no_grad():
        together = model(**collator(items(ROWS)))[0]
        alone = [model(**collator([item]))[0] for item in items(ROWS)]
        monkeypatch.setitem(token_objective.SPLIT_TOKENS, "cpu", 40)  # a group each
        split = model(**collator(items(ROWS)))[0]
    torch.testing.assert_close(together, torch.stack(alone).sum(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(together, split, rtol=1e-5, atol=1e-4)


def test_gradients_reach_trunk_and_head_as_in_the_whole_model(causal: Encoder) -> None:
    batch = AnswerCollator(causal)(items(ROWS))
    whole = AutoModelForCausalLM.from_pretrained(causal.backbone.source.path, dtype=torch.float32).eval()
    model = model_of(causal, train_head=True).eval()
    loss, count, _ = model(**batch)
    (loss / count).backward()
    whole(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss.backward()
    table = whole.get_input_embeddings().weight.grad
    torch.testing.assert_close(model.trunk.get_input_embeddings().weight.grad, table, rtol=1e-4, atol=1e-5)  # type: ignore[operator]
    if causal.backbone.head is not None:
        torch.testing.assert_close(
            causal.backbone.head.weight.grad, whole.get_output_embeddings().weight.grad, rtol=1e-4, atol=1e-5
        )
