"""What the word-level tests share: tagged sentences that a linear probe can learn, and small encoders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from common.attention import set_attention
from common.backbone import Backbone, load_backbone
from llm2vec.word_data import TaggedSentences, read_split

# The tag depends on the word alone, so that states of a random model, which tell words apart, suffice.
LEXICON = {
    "NN": ("cat", "window", "sentence", "rain", "park", "similarity"),
    "VB": ("watched", "playing", "measured", "raised", "summarized"),
    "DT": ("the", "a"),
    "JJ": ("black", "Two", "near"),
}
TAG_OF = {word: tag for tag, words in LEXICON.items() for word in words}
ENTITY_OF = {"cat": "B-PER", "window": "B-LOC", "park": "B-LOC"}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Random sentences of 3 to 9 words with the columns tokens, pos and ner."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        words = draw.choices(list(TAG_OF), k=draw.randint(3, 9))
        tags = {"pos": [TAG_OF[word] for word in words], "ner": [ENTITY_OF.get(word, "O") for word in words]}
        found.append({"tokens": words, **tags})
    return found


def write_rows(path: Path, found: list[dict[str, Any]]) -> Path:
    """Rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


def write_data(folder: Path, train: int = 200, test: int = 60) -> Path:
    """A data set of such sentences as a folder with train, valid and test."""
    for seed, (name, count) in enumerate({"train": train, "valid": 20, "test": test}.items()):
        write_rows(folder / f"{name}.jsonl", rows(count, seed))
    return folder


def split_of(folder: Path, split: Any, *tasks: str) -> TaggedSentences:
    """One split of such a folder, which is there."""
    found = read_split(str(folder), split, tasks or ("pos_tags",))
    assert found is not None
    return found


def frozen(folder: str | Path, attention: Any = "bidirectional") -> Backbone:
    """A trunk in fp32 on the CPU, with this attention."""
    backbone = load_backbone(str(folder), dtype="float32", device="cpu")
    set_attention(backbone.model, attention)
    return backbone


def word_trunk(folder: str | Path) -> Backbone:
    """A random trunk whose states are mostly the word's own embedding, so that a linear probe can tell words apart."""
    backbone = frozen(folder)
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.mul_(0.05)
    return backbone
