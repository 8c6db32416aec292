"""Masking: the draws of the original collators, what is never masked, and the choice of the mask token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from common.errors import InputError
from llm2vec.masking import IGNORED, Masking, mask_token

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "llm2vec"
VOCAB = 96


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "collator.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")


def masking(recorded: dict[str, torch.Tensor], case: str, style: str) -> Masking:
    probability = float(recorded[f"{case}/probability"])
    return Masking(int(recorded["mask_token_id"]), VOCAB, probability, style)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "style"),
    [
        ("bert_p20", "bert"),
        ("bert_p20", "default"),
        ("all_mask_p80", "all_mask"),
        ("all_mask_p80", "roberta"),
        ("all_mask_p100", "all_mask"),
    ],
)
@pytest.mark.parametrize("own_generator", [False, True])
def test_the_draws_are_those_of_the_original(
    recorded: dict[str, torch.Tensor], case: str, style: str, own_generator: bool
) -> None:
    seed = int(recorded["torch_seed"])
    generator = torch.Generator().manual_seed(seed) if own_generator else None
    torch.manual_seed(0 if own_generator else seed)
    before = recorded["examples"].clone()
    ids, labels = masking(recorded, case, style)(recorded["examples"], recorded["special_tokens_mask"] == 0, generator)
    assert torch.equal(ids, recorded[f"{case}/input_ids"])
    assert torch.equal(labels, recorded[f"{case}/labels"])
    assert torch.equal(recorded["examples"], before)


@pytest.mark.parametrize(("style", "shares"), [("bert", (0.8, 0.1, 0.1)), ("all_mask", (1.0, 0.0, 0.0))])
def test_shares_of_masked_random_and_kept_tokens(style: str, shares: tuple[float, ...]) -> None:
    """On 100,000 tokens: within 1 percent point (five standard deviations and more)."""
    ids = torch.full((100, 1000), 50)
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, :100] = False
    masked, labels = Masking(3, 10_000, 0.4, style)(ids, maskable, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    chosen = labels != IGNORED
    assert not chosen[:, :100].any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert torch.equal(labels[chosen], ids[chosen])
    assert chosen[:, 100:].float().mean() == pytest.approx(0.4, abs=0.01)
    now = masked[chosen]
    found = [(now == 3).float().mean(), ((now != 3) & (now != 50)).float().mean(), (now == 50).float().mean()]
    assert [float(share) for share in found] == pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1])
def test_a_probability_is_one(probability: float) -> None:
    with pytest.raises(InputError, match="--mlm_probability"):
        Masking(3, VOCAB, probability)


def test_the_mask_token_of_each_type(tokenizer: PreTrainedTokenizerBase) -> None:
    before = tokenizer.mask_token
    assert mask_token(tokenizer, "blank", VOCAB) == 3
    assert tokenizer.convert_ids_to_tokens(3) == "_"
    assert mask_token(tokenizer, "eos", VOCAB) == 2
    assert mask_token(tokenizer, "mask", VOCAB) == VOCAB
    assert tokenizer.mask_token == before
    assert len(tokenizer) == VOCAB


def test_a_tokenizers_own_mask_token_goes_first(bert_folder: Path) -> None:
    own = AutoTokenizer.from_pretrained(bert_folder)
    for kind in ("blank", "eos", "mask"):
        assert mask_token(own, kind, 999) == own.mask_token_id  # type: ignore[arg-type]


def test_a_tokenizer_without_such_a_token_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")), unk_token="<unk>"
    )
    with pytest.raises(InputError, match="--mask_token_type blank: this tokenizer has no token '_'; give eos or mask"):
        mask_token(bare, "blank", 2)
    with pytest.raises(InputError, match="--mask_token_type eos: this tokenizer has no end token"):
        mask_token(bare, "eos", 2)
