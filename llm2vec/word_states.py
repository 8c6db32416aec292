"""One state per word of a sentence: the mean over the states of the word's sub-tokens.

The words are joined by single blanks and tokenised as one text, with the special tokens that the tokenizer puts
around one, and without any template; which word a sub-token belongs to is read off its characters. For
SentencePiece models (Llama 2, Mistral) that gives the same tokens as tokenising word by word, as the released code
does; byte-level models (Llama 3, SmolLM2) would get words glued together that way.

Which states stand for a sub-token at position i (LLM2Vec, arXiv 2404.05961, section 4):

- "same_token": that at i.
- "next_token": that at i - 1, which MNTP has taught to predict token i. Where the tokenizer puts nothing in front
  of a text (SmolLM2), the first sub-token has no state before it, and its own is taken; so every word has a state,
  and both choices are scored on the same words. (The released code leaves the first word out there.)
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from common.backbone import Backbone
from common.batching import pad, plan
from common.cpu_linear import fast_linears
from common.errors import InputError
from common.forward import TOKENS_WORTH_A_BAR, default_tokens

logger = logging.getLogger(__name__)

Labels = Literal["same_token", "next_token"]
Cache = Literal["auto", "memory", "disk", "none"]
Integers = NDArray[np.int64]

CHUNK = 1000  # sentences per call of the tokenizer
READ_TOKENS = 16384  # per batch of states that are read from a cache


@dataclass(frozen=True)
class Aligned:
    """Tokenised sentences, and which states make up the state of each word.

    Attributes:
        ids: token ids (T,) per sentence.
        positions: (S,) per sentence: the position of the state that stands for each sub-token.
        ranks: (S,) per sentence: the word of each sub-token, as a position in `kept`.
        kept: (K,) per sentence: the words that have a state, in order. All of them, unless a sentence is longer
            than the model reads, or a word has no token.
    """

    ids: list[list[int]]
    positions: list[Integers]
    ranks: list[Integers]
    kept: list[Integers]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per sentence."""
        return [len(ids) for ids in self.ids]

    @property
    def words(self) -> int:
        """Words with a state, of all sentences."""
        return sum(map(len, self.kept))


def align(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sequence[str]],
    *,
    labels: Labels = "next_token",
    merge_subwords: bool = True,
    max_length: int = 512,
) -> Aligned:
    """Tokenise sentences of words.

    Args:
        tokenizer: a fast one (it tells the characters behind each token).
        sentences: words of each; a word may hold blanks.
        labels: see the module.
        merge_subwords: all sub-tokens of a word count; False: its first alone.
        max_length: tokens per sequence, special tokens included; what is over is cut off.

    Raises:
        InputError: a tokenizer that can't tell the characters behind its tokens.
    """
    if not tokenizer.is_fast:
        raise InputError(f"{type(tokenizer).__name__}: words need a fast tokenizer, which knows where tokens begin")
    found = Aligned([], [], [], [])
    for start in range(0, len(sentences), CHUNK):
        chunk = sentences[start : start + CHUNK]
        encoded = tokenizer(
            [" ".join(words) for words in chunk],
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            verbose=False,
        )
        columns = (encoded[name] for name in ("input_ids", "offset_mapping", "special_tokens_mask"))
        for words, ids, offsets, special in zip(chunk, *columns):
            subtokens = np.flatnonzero(np.asarray(special) == 0)
            word = _word_of(words, np.asarray(offsets).reshape(-1, 2)[subtokens])
            if not merge_subwords:
                word, first = np.unique(word, return_index=True)
                subtokens = subtokens[first]
            kept, ranks = np.unique(word, return_inverse=True)
            found.ids.append(ids)
            found.positions.append(np.maximum(subtokens - 1, 0) if labels == "next_token" else subtokens)
            found.ranks.append(ranks)
            found.kept.append(kept)
    missing = sum(map(len, sentences)) - found.words
    if missing:
        logger.warning("%d words have no state (max_length %d): they are not scored", missing, max_length)
    return found


def _word_of(words: Sequence[str], spans: Integers) -> Integers:
    """The word (S,) in which each sub-token (S, 2) begins; the blank before a word is the word's."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return np.minimum(np.searchsorted(ends, spans[:, 0], side="right"), len(words) - 1)


def merge(hidden: Tensor, aligned: Aligned, numbers: Sequence[int]) -> Tensor:
    """The states of all words (W, D), fp32, sentence after sentence.

    Args:
        hidden: (B, T, D), states of the sentences `numbers`, padded on the right.
        aligned: of all sentences.
        numbers: B sentences.
    """
    device = hidden.device
    sizes = [len(aligned.kept[i]) for i in numbers]
    first = np.cumsum(sizes) - sizes
    rows = np.repeat(np.arange(len(numbers)), [len(aligned.positions[i]) for i in numbers])
    positions = torch.from_numpy(np.concatenate([aligned.positions[i] for i in numbers])).to(device)
    words = np.concatenate([aligned.ranks[i] + offset for i, offset in zip(numbers, first)])
    parts = hidden[torch.from_numpy(rows).to(device), positions].float()
    sums = torch.zeros((sum(sizes), hidden.shape[-1]), device=device)
    sums.index_add_(0, torch.from_numpy(words).to(device), parts)
    counts = torch.from_numpy(np.bincount(words, minlength=sum(sizes))).to(device)
    return sums / counts[:, None]


class WordEncoder:
    """A frozen trunk that gives one state per word.

    Args:
        backbone: trunk and tokenizer; the trunk runs in evaluation mode.
        labels, merge_subwords, max_length: as for `align`.
        max_tokens: padded tokens per batch; None picks by device.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        labels: Labels = "next_token",
        merge_subwords: bool = True,
        max_length: int = 512,
        max_tokens: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.labels: Labels = labels
        self.merge_subwords = merge_subwords
        limit = getattr(backbone.config, "max_position_embeddings", None) or max_length
        self.max_length = min(max_length, limit)
        self.max_tokens = max_tokens or default_tokens(backbone.device)
        self.tokens = 0  # run so far, without padding
        backbone.model.eval()

    def align(self, sentences: Sequence[Sequence[str]]) -> Aligned:
        """Tokenise sentences for this encoder."""
        return align(
            self.backbone.tokenizer,
            sentences,
            labels=self.labels,
            merge_subwords=self.merge_subwords,
            max_length=self.max_length,
        )

    @torch.no_grad()
    def states(self, aligned: Aligned, numbers: Sequence[int]) -> Tensor:
        """The states (W, D), fp32, of the words of some sentences, which go through the trunk as one batch."""
        ids, mask = pad([aligned.ids[i] for i in numbers], self.backbone.tokenizer.pad_token_id or 0)
        padded = bool((mask == 0).any())
        device = self.backbone.device
        with fast_linears(self.backbone.model):
            output = self.backbone.model(
                input_ids=ids.to(device), attention_mask=mask.to(device) if padded else None, use_cache=False
            )
        self.tokens += int(mask.sum())
        return merge(output.last_hidden_state, aligned, numbers)


class WordStates(Protocol):
    """The states of the words of aligned sentences; `max_tokens`: padded tokens of a batch that runs well."""

    aligned: Aligned
    max_tokens: int

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """The states (W, D), fp32, of the words of some sentences, sentence after sentence."""
        ...


class LiveStates:
    """States that are computed anew each time."""

    def __init__(self, encoder: WordEncoder, aligned: Aligned) -> None:
        self.encoder = encoder
        self.aligned = aligned
        self.max_tokens = encoder.max_tokens

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """As `WordStates.batch`."""
        return self.encoder.states(self.aligned, numbers)


class CachedStates:
    """States that were computed once: an array (W, D) in memory or in an unnamed temporary file (see `TMPDIR`).

    Args:
        encoder: what computes them, here.
        aligned: of which sentences.
        kind: "memory" or "disk".
        dtype: "float32", or "float16", which rounds and takes half the space.

    Raises:
        InputError: no space on the disk, or states too large for fp16.
    """

    def __init__(
        self, encoder: WordEncoder, aligned: Aligned, kind: Literal["memory", "disk"], dtype: str = "float32"
    ) -> None:
        self.aligned = aligned
        self.max_tokens = READ_TOKENS
        sizes = [len(kept) for kept in aligned.kept]
        self._first = np.cumsum([0, *sizes])
        shape = (aligned.words, encoder.backbone.hidden_size)
        self._array = _on_disk(shape, dtype) if kind == "disk" else np.empty(shape, dtype=dtype)
        for numbers in batches(aligned, encoder.max_tokens, "word states"):
            states = encoder.states(aligned, numbers).cpu().numpy()
            if dtype == "float16" and np.abs(states).max(initial=0) > np.finfo(np.float16).max:
                raise InputError("--cache_dtype float16: a state is too large for it; give float32")
            done = 0
            for i in numbers:
                self._array[self._first[i] : self._first[i + 1]] = states[done : done + sizes[i]]
                done += sizes[i]

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """As `WordStates.batch`."""
        rows = np.concatenate([np.arange(self._first[i], self._first[i + 1]) for i in numbers])
        return torch.from_numpy(np.asarray(self._array[rows], dtype=np.float32))


def batches(aligned: Aligned, max_tokens: int, title: str | None = None) -> Iterator[list[int]]:
    """All sentences, those of like length together, with a progress bar where it takes a while."""
    planned = plan(aligned.lengths, max_tokens)
    hidden = title is None or sum(aligned.lengths) < TOKENS_WORTH_A_BAR
    with tqdm(total=len(aligned), desc=title, unit="sentence", disable=hidden, leave=False) as bar:
        for numbers in planned:
            yield numbers
            bar.update(len(numbers))


def cache_bytes(words: int, dim: int, dtype: str) -> int:
    """What the states of so many words take."""
    return words * dim * np.dtype(dtype).itemsize


def _on_disk(shape: tuple[int, int], dtype: str) -> NDArray[np.float32]:
    size = cache_bytes(*shape, dtype)
    try:
        file = tempfile.TemporaryFile(prefix="word-states-")  # noqa: SIM115 - the array keeps it open
        file.truncate(max(size, 1))
        if hasattr(os, "posix_fallocate"):
            # All space now: writing to a mapped file on a full disk would end the process.
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        raise InputError(
            f"--cache disk: {tempfile.gettempdir()}: {error.strerror} ({size / 1e9:.1f} GB); set TMPDIR to a folder "
            "with more space, or give --cache none"
        ) from error
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
