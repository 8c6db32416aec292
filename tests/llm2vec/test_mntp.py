"""MNTP's loss: the recorded numbers of the original, documents that do not see each other, and the gradients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parent))
from mntp_fixtures import GOLDEN, bidirectional, recorded

from common import token_objective
from common.attention import set_attention
from common.lm_head import load_lm_head
from common.token_objective import scored
from llm2vec.masking import IGNORED, Masking
from llm2vec.mntp import MaskingCollator, MntpModel, Validation
from llm2vec.packing import BlockCollator, Blocks, pack, tokenize_texts


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return recorded("mntp")


def model_of(folder: Path, **options: Any) -> MntpModel:
    encoder = bidirectional(folder)
    return MntpModel(encoder.embedder, load_lm_head(encoder.backbone), **options).eval()


def padded_right(golden: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[int]]:
    """The recorded batch, its rows moved to the left edge."""
    lengths = golden["attention_mask"].sum(1).tolist()
    arrays = {name: golden[name] for name in ("input_ids", "attention_mask", "labels")}
    moved = {name: torch.stack([row.roll(n, 0) for row, n in zip(array, lengths)]) for name, array in arrays.items()}
    assert (moved["attention_mask"].diff(dim=1) <= 0).all()
    return moved, lengths


# -- against the original ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_the_loss_is_that_of_the_original(golden: dict[str, Tensor], family: str) -> None:
    """Left padding, the batch whole, as the original ran it."""
    model = model_of(GOLDEN / f"tiny_{family}")
    with torch.no_grad():
        states = model.trunk(input_ids=golden["input_ids"], attention_mask=golden["attention_mask"]).last_hidden_state
        chosen, targets = scored(states, golden["labels"])
        found = cross_entropy(model.head(chosen, model.trunk), targets, reduction="none")
    assert found.mean() == pytest.approx(float(golden[f"{family}/loss"]), abs=2e-6)
    per_token = golden[f"{family}/per_token_loss"]
    torch.testing.assert_close(found, per_token[~per_token.isnan()], atol=2e-5, rtol=0)
    assert abs(found.mean() - golden[f"{family}/loss_same_position_WRONG"]) > 1e-2


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("budget", [12, 20, 1000])
def test_the_model_gives_it_in_groups_of_rows(
    golden: dict[str, Tensor], family: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(token_objective.SPLIT_TOKENS, "cpu", budget)
    model = model_of(GOLDEN / f"tiny_{family}")
    batch, lengths = padded_right(golden)
    with torch.no_grad():
        loss, count, right = model(**batch, lengths=lengths)
    assert int(count) == int((~golden[f"{family}/per_token_loss"].isnan()).sum())
    assert loss / count == pytest.approx(float(golden[f"{family}/loss"]), abs=2e-6)
    assert abs(loss / count - golden[f"{family}/loss_same_position_WRONG"]) > 1e-2
    if family == "llama":
        best = golden["llama/logits"][:, :-1].argmax(-1)
        assert int(right) == int((best == golden["labels"][:, 1:]).sum())


def test_logits_are_those_of_the_original(golden: dict[str, Tensor]) -> None:
    model = model_of(GOLDEN / "tiny_llama")
    real = golden["attention_mask"].bool()
    with torch.no_grad():
        states = model.trunk(input_ids=golden["input_ids"], attention_mask=golden["attention_mask"]).last_hidden_state
        torch.testing.assert_close(
            model.head(states[real], model.trunk), golden["llama/logits"][real], atol=2e-5, rtol=0
        )


def test_gradients_are_those_of_the_original(golden: dict[str, Tensor]) -> None:
    model = model_of(GOLDEN / "tiny_llama")
    assert model.head.linear is not None
    assert not model.head.linear.weight.requires_grad  # the head stays as it is
    model.head.linear.requires_grad_(True)
    batch, lengths = padded_right(golden)
    loss, count, _ = model(**batch, lengths=lengths)
    (loss / count).backward()
    query = model.trunk.layers[0].self_attn.q_proj.weight  # type: ignore[union-attr,index]
    torch.testing.assert_close(query.grad, golden["llama/grad_layer0_q_proj"], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.head.linear.weight.grad, golden["llama/grad_lm_head"], atol=1e-5, rtol=0)


def test_only_scored_positions_reach_the_head(golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(GOLDEN / "tiny_llama")
    seen = []
    model.head.register_forward_hook(lambda head, inputs, output: seen.append(inputs[0].shape[0]))
    batch, lengths = padded_right(golden)
    _, count, _ = model(**batch, lengths=lengths)
    assert sum(seen) == int(count) < sum(lengths) / 2


# -- documents --------------------------------------------------------------------------------------


def two_documents(cross: bool) -> Blocks:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    texts = ["w1 w2 w3 w4 w5 w6", "w7 w8 w9 w10"]
    return pack(tokenize_texts(tokenizer, texts), 64, "s", cross_document=cross)


def loss_of_first_document(model: MntpModel, blocks: Blocks) -> float:
    """The loss of the labels at positions 2 and 4 of the block's first row."""
    batch = BlockCollator(0)([blocks[0]])  # collated, not masked
    labels = torch.full_like(batch["input_ids"], IGNORED)
    labels[0, [2, 4]] = batch["input_ids"][0, [2, 4]]
    with torch.no_grad():
        loss, count, _ = model(**batch, labels=labels)
    assert int(count) == 2
    return float(loss)


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("cross", [False, True])
def test_another_document_is_seen_only_where_asked_for(family: str, cross: bool) -> None:
    model = model_of(GOLDEN / f"tiny_{family}")
    blocks = two_documents(cross)
    before = loss_of_first_document(model, blocks)
    blocks.ids[-1] = 50  # the last token of the second document
    after = loss_of_first_document(model, blocks)
    assert (before != after) == cross


def test_rows_are_what_a_block_mask_would_give() -> None:
    """The whole block at once, under a 4-D mask that keeps documents apart: the same sum of losses."""
    model = model_of(GOLDEN / "tiny_llama")
    model.trunk.set_attn_implementation("eager")  # type: ignore[operator]
    whole, rows = two_documents(True)[0][1]["rows"][0], two_documents(False)[0]
    document = torch.repeat_interleave(torch.arange(2), torch.tensor([len(row) for row in rows[1]["rows"]]))
    mask = torch.where(document[:, None] == document[None, :], 0.0, torch.finfo(torch.float32).min)[None, None]
    ids = torch.from_numpy(whole).long()[None]
    positions = torch.cat([torch.arange(len(row)) for row in rows[1]["rows"]])[None]
    labels = ids.clone()
    labels[0, positions[0] == 0] = IGNORED
    batch = BlockCollator(0)([rows])
    apart = torch.where(batch["attention_mask"].bool(), batch["input_ids"], IGNORED)
    with torch.no_grad():
        states = model.trunk(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
        chosen, targets = scored(states, labels)
        expected = cross_entropy(model.head(chosen, model.trunk), targets, reduction="sum")
        found, count, _ = model(**batch, labels=apart)
    assert int(count) == len(targets) == len(whole) - 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("mode", ["causal", "bidirectional"])
def test_position_ids_keep_documents_apart_in_causal_masks_only(mode: Any) -> None:
    """Why the rows: transformers' own way does nothing for a bidirectional model. If this fails, it does now."""
    trunk: Any = model_of(GOLDEN / "tiny_llama").trunk
    set_attention(trunk, mode)
    ids = torch.arange(10, 20)[None]
    other = ids.clone()
    other[0, 0] = 50  # in the first document; the second begins at position 5
    positions = torch.cat([torch.arange(5), torch.arange(5)])[None]
    with torch.no_grad():
        states = [trunk(input_ids=x, position_ids=positions).last_hidden_state[0, 5:] for x in (ids, other)]
    assert torch.equal(*states) == (mode == "causal")


def test_a_row_without_labels_is_not_run() -> None:
    model = model_of(GOLDEN / "tiny_llama")
    seen = []
    model.trunk.register_forward_pre_hook(lambda m, a, k: seen.append(len(k["input_ids"])), with_kwargs=True)
    ids = torch.arange(10, 30).reshape(4, 5)
    labels = torch.full_like(ids, IGNORED)
    labels[:, 0] = 7  # has no state before it
    labels[2, 3] = 7
    loss, count, _ = model(ids, torch.ones_like(ids), labels, [5] * 4)
    assert (int(count), seen) == (1, [1])
    labels[2, 3] = IGNORED
    loss, count, right = model(ids, torch.ones_like(ids), labels, [5] * 4)
    loss.backward()  # every process reaches its parameters
    assert (loss.item(), int(count), int(right)) == (0.0, 0, 0)
    assert model.trunk.layers[0].self_attn.q_proj.weight.grad.abs().sum() == 0  # type: ignore[union-attr,index]


# -- masking of batches -----------------------------------------------------------------------------


def test_special_tokens_and_padding_are_never_masked() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    collator = MaskingCollator(tokenizer, Masking(3, 96, 1.0, "all_mask"))
    batch = collator([two_documents(True)[0], two_documents(False)[0]])
    before = {name: batch[name].clone() for name in ("input_ids", "attention_mask")}
    collator.mask(batch, torch.Generator())
    chosen = batch["labels"] != IGNORED
    special = torch.isin(before["input_ids"], torch.tensor(tokenizer.all_special_ids))
    expected = before["attention_mask"].bool() & ~special
    assert tokenizer.bos_token_id in before["input_ids"][0, 1:]  # the second document's, within the block
    assert torch.equal(chosen[:, 1:], expected[:, 1:])
    assert not chosen[:, 0].any()
    assert torch.equal(batch["labels"][chosen], before["input_ids"][chosen])
    assert (batch["input_ids"][chosen] == 3).all()
    assert torch.equal(batch["input_ids"][~expected], before["input_ids"][~expected])


def test_the_first_token_of_a_row_is_never_scored_and_never_counted() -> None:
    """Where a block cuts a document in two, a row begins without a special token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    blocks = pack(tokenize_texts(tokenizer, ["w1 w2 w3 w4 w5 w6 w7 w8"]), 4, "s")
    collator = MaskingCollator(tokenizer, Masking(3, 96, 1.0, "all_mask"))
    batch = collator([blocks[0], blocks[1]])
    assert batch["input_ids"][1, 0] != tokenizer.bos_token_id
    collator.mask(batch, torch.Generator())
    assert (batch["labels"] != IGNORED).tolist() == [[False, True, True, True]] * 2
    with torch.no_grad():
        _, count, _ = model_of(GOLDEN / "tiny_llama")(**batch)
    assert int(count) == int((batch["labels"] != IGNORED).sum()) == 6


def test_shuffled_labels_are_the_same_ones_elsewhere() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    batches = []
    for shuffle in (False, True):
        collator = MaskingCollator(tokenizer, Masking(3, 96, 0.9), shuffle_labels=shuffle)
        batch = collator([two_documents(False)[0]])
        collator.mask(batch, torch.Generator().manual_seed(1))
        batches.append(batch)
    plain, shuffled = batches
    assert torch.equal(plain["input_ids"], shuffled["input_ids"])
    assert torch.equal(plain["labels"] == IGNORED, shuffled["labels"] == IGNORED)
    assert sorted(plain["labels"].flatten().tolist()) == sorted(shuffled["labels"].flatten().tolist())
    assert not torch.equal(plain["labels"], shuffled["labels"])


def test_validation_masks_the_same_tokens_whatever_the_batch() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    texts = [" ".join(f"w{(7 * i + j) % 80}" for j in range(3 + i)) for i in range(9)]
    blocks = pack(tokenize_texts(tokenizer, texts), 16, "s")
    collator = MaskingCollator(tokenizer, Masking(3, 96, 0.5))
    model = model_of(GOLDEN / "tiny_llama")
    sums = []
    for size in (1, 2, 100):
        batches = list(Validation(blocks, collator, seed=0).batches(size))
        assert sum(map(len, (batch["lengths"] for batch in batches))) == len(blocks.spans)
        with torch.no_grad():
            parts = [model(b["input_ids"], b["attention_mask"], b["labels"], b["lengths"]) for b in batches]
        sums.append([sum(float(part[i]) for part in parts) for i in range(3)])
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert sums[0] == pytest.approx(sums[2], rel=1e-5)
    for batch in Validation(blocks, collator, seed=0).batches(100):
        chosen = batch["labels"] != IGNORED
        assert not chosen[:, 0].any()
        assert chosen.any()
        assert not torch.isin(batch["labels"][chosen], torch.tensor(tokenizer.all_special_ids)).any()
        assert (batch["attention_mask"][chosen] == 1).all()


# -- a mask token of its own ------------------------------------------------------------------------


def test_a_new_mask_token_has_the_mean_embedding() -> None:
    model = model_of(GOLDEN / "tiny_llama", new_id=96)
    plain = model_of(GOLDEN / "tiny_llama")
    ids = torch.arange(10, 20)[None].repeat(2, 1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, 4] = ids[:, 4]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        assert float(model(ids, mask, labels, [10, 10])[0]) == float(plain(ids, mask, labels, [10, 10])[0])
        table = plain.trunk.get_input_embeddings().weight  # type: ignore[operator]
        table[95] = table.mean(0)
        model.new_embedding.copy_(table[95])  # type: ignore[operator]
        masked = ids.clone()
        masked[:, 4] = 95
        expected = plain(masked, mask, labels, [10, 10])[0]
        masked[:, 4] = 96
        found = model(masked, mask, labels, [10, 10])[0]
    torch.testing.assert_close(found, expected)
    fresh = model_of(GOLDEN / "tiny_llama", new_id=96)
    mean = fresh.trunk.get_input_embeddings().weight.mean(0)  # type: ignore[operator]
    torch.testing.assert_close(fresh.new_embedding, mean)
