"""All modes of an InBedder model on top of its `Encoder`: vectors, answers, or both; cached where asked for."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from common.attention import num_layers
from common.encoder import Encoder
from common.errors import InputError
from common.io import sha256_of
from common.lm_head import LMHead, load_lm_head
from common.prompts import check_texts
from inbedder.cache import RowCache, weights_hash
from inbedder.causal import NO_TOKEN, AnswerEmbedder, PromptEmbedder
from inbedder.decoding import Decoding
from inbedder.generation import end_ids
from inbedder.masked import MaskEmbedder, load_masked_head
from inbedder.modes import GENERATING, Mode, find_mode

G1_FALLBACK = "inbedder:g1-fallback"


class Reencoder(Protocol):
    """Anything that embeds texts as sentence-transformers do."""

    def encode(self, sentences: list[str], *, show_progress_bar: bool | None) -> Any:
        """Vectors (n, D)."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out for n texts.

    Attributes:
        vectors: (n, D), fp32.
        answers: the ids of each answer, special tokens included; None where none was asked for or needed.
        everywhere: of a masked model, if asked for: the likeliest ids at all tokens of each prompt.
    """

    vectors: Tensor
    answers: list[list[int]] | None = None
    everywhere: list[list[int]] | None = None


class ModeEncoder:
    """The modes of `inbedder.modes` with an encoder's model and template; the heads are loaded when needed.

    Args:
        encoder: of `inbedder.load`; stays as it is, its usage counts what is run here.
        decoding: how answers are generated; a masked model answers at its masks.
        reencoder: for re_encode: a model name, or anything with `encode`.
    """

    def __init__(
        self, encoder: Encoder, *, decoding: Decoding | None = None, reencoder: str | Reencoder | None = None
    ) -> None:
        if encoder.backbone.is_decoder != (encoder.pooled == "all"):
            raise InputError("modes: give an encoder of inbedder.load")
        self.encoder = encoder
        self.decoding = decoding or Decoding()
        self.masked = not encoder.backbone.is_decoder
        self.layers = num_layers(encoder.backbone.model)
        self._reencoder = reencoder
        self._head: nn.Module | None = None

    @property
    def head(self) -> nn.Module:
        """The language-model head, loaded at first use."""
        if self._head is None:
            load = load_masked_head if self.masked else load_lm_head
            self._head = load(self.encoder.backbone)
        return self._head

    def find_mode(self, name: str | None, layer: int = -1) -> Mode:
        """The mode of a name at this model (`inbedder.modes.find_mode`).

        Raises:
            InputError: no such mode or layer, or re_encode without a re-encoder.
        """
        mode = find_mode(name, layer, masked=self.masked, layers=self.layers)
        if mode.name == "re_encode" and self._reencoder is None:
            raise InputError("output value 're_encode': give reencoder=, the name of a sentence-transformers model")
        return mode

    def to(self, device: str | torch.device) -> None:
        """Move the head after the encoder was moved."""
        if self._head is not None:
            self._head.to(device)

    def encode(
        self,
        texts: str | Sequence[str],
        mode: str | None = None,
        layer: int = -1,
        *,
        instruction: str | Sequence[str | None] | None = None,
        normalize_embeddings: bool = False,
        convert_to_tensor: bool = False,
        return_generations: bool = False,
        cache_dir: str | Path | None = None,
        filter_words: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Vectors of texts in a mode; with `return_generations` a pair: vectors, and a list of the answers alone.

        Args:
            texts: one or many.
            mode: a mode, or a released output value; default: first, of masked models answer_mean.
            layer: 0 to L, or -1.
            instruction: as in `Encoder.encode`.
            normalize_embeddings: L2-normalise.
            convert_to_tensor: a tensor on the CPU in place of a numpy array.
            return_generations: the answers, too.
            cache_dir: keep rows there, and take those that are there.
            filter_words: words whose tokens count as no answer (a causal model's; those of a phrase one by one).
            options: batch_size, max_batch_tokens, show_progress_bar, devices of `Encoder.encode`.

        Returns:
            (n, D) float32; (D,) for a single str.
        """
        single = isinstance(texts, str)
        result = self.run(
            [texts] if isinstance(texts, str) else texts,
            mode,
            layer,
            instruction=instruction,
            answers=return_generations,
            cache_dir=cache_dir,
            filter_words=filter_words,
            **options,
        )
        vectors = result.vectors
        if normalize_embeddings or self.encoder.normalize:
            vectors = nn.functional.normalize(vectors, dim=1)
        vectors = vectors[0] if single else vectors
        found = vectors if convert_to_tensor else vectors.numpy()
        return (found, self.decode(result.answers or [])) if return_generations else found

    def answers(self, texts: Sequence[str], *, instruction: Any = None, **options: Any) -> list[str]:
        """The answers to a question about texts, as text; options as in `encode`."""
        return self.encode(texts, instruction=instruction, return_generations=True, **options)[1]

    def decode(self, answers: Sequence[Sequence[int]], skip: Sequence[int] = ()) -> list[str]:
        """Token ids as text, special tokens and those in `skip` left out."""
        left_out = set(skip)
        kept = [[token for token in answer if token not in left_out] for answer in answers]
        tokenizer: Any = self.encoder.backbone.tokenizer
        return [tokenizer.decode(ids, skip_special_tokens=True) for ids in kept]

    def run(
        self,
        texts: Sequence[str],
        mode: str | None = None,
        layer: int = -1,
        *,
        instruction: str | Sequence[str | None] | None = None,
        answers: bool = False,
        everywhere: bool = False,
        cache_dir: str | Path | None = None,
        filter_words: Sequence[str] | None = None,
        **options: Any,
    ) -> Result:
        """Vectors and, where asked for or needed, answer ids; arguments as in `encode`.

        `everywhere`: of a masked model, the likeliest ids at all tokens, too.
        """
        chosen = self.find_mode(mode, layer)
        needs_answers = answers or everywhere or chosen.name in (("re_encode",) if self.masked else GENERATING)
        filtered = self._filter_ids(filter_words) if needs_answers and not self.masked else []
        items = check_texts(texts)
        module = self._module(chosen, needs_answers, everywhere, filtered)
        widths = self._widths(needs_answers, everywhere)
        if items:
            rows = self._rows(items, instruction, module, chosen, filtered, cache_dir, options)
        else:
            rows = torch.zeros((0, sum(widths) + (chosen.name != "re_encode") * self.encoder.dim))
        vectors, *ids = rows.split([rows.shape[1] - sum(widths), *widths], dim=1)
        found = [[[t for t in row if t != NO_TOKEN] for row in part.long().tolist()] for part in ids]
        if chosen.name == "re_encode":
            vectors = self._reencode(self.decode(found[0], filtered))
        return Result(vectors, *(found[:2] if everywhere else found[:1]))

    # -- running --------------------------------------------------------------------------------------------

    def _module(self, mode: Mode, answers: bool, everywhere: bool, filtered: Sequence[int]) -> nn.Module:
        """What is run on token ids to get rows."""
        encoder = self.encoder
        trunk, tokenizer = encoder.embedder.trunk, encoder.backbone.tokenizer
        if self.masked:
            masks, width = self._widths(True, True) if answers else (0, 0)
            return MaskEmbedder(
                trunk,
                mode,
                eos_id=tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id,
                masks=masks,
                head=self.head if answers else None,
                width=width if everywhere else 0,
            )
        if not answers:
            return PromptEmbedder(trunk, mode)
        ends = end_ids(encoder.backbone)
        assert isinstance(self.head, LMHead)
        return AnswerEmbedder(
            trunk,
            self.head,
            mode,
            self.decoding,
            end_ids=ends,
            pad_id=tokenizer.pad_token_id or 0,
            unkept=sorted({*tokenizer.all_special_ids, *ends, *filtered}),
            fall_back=G1_FALLBACK in encoder.compat,
        )

    def _widths(self, answers: bool, everywhere: bool) -> tuple[int, ...]:
        """How many ids stand behind the vector in a row: of the answer, and of all tokens."""
        if not answers:
            return ()
        if not self.masked:
            return (self.decoding.max_new_tokens,)
        mask = str(self.encoder.backbone.tokenizer.mask_token)
        pattern, masks = self.encoder.templates["text"].pattern, 0
        while pattern.endswith(mask):
            pattern, masks = pattern.removesuffix(mask), masks + 1
        return (masks, self.encoder.max_length) if everywhere else (masks,)

    def _rows(
        self,
        texts: list[str],
        instruction: str | Sequence[str | None] | None,
        module: nn.Module,
        mode: Mode,
        filtered: Sequence[int],
        cache_dir: str | Path | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Rows (n, W) of texts, run or found."""
        view = copy.copy(self.encoder)
        view.embedder = module  # type: ignore[assignment]
        view.normalize = False
        most = getattr(view.backbone.config, "max_position_embeddings", None)
        if isinstance(module, AnswerEmbedder) and most is not None:
            view.max_length = min(view.max_length, most - self.decoding.max_new_tokens)
        if cache_dir is None:
            return view.encode(texts, instruction=instruction, convert_to_tensor=True, **options)
        cache = RowCache(cache_dir, self._settings(view, module, mode, filtered))
        per_text = [instruction] * len(texts) if instruction is None or isinstance(instruction, str) else instruction
        keys = [sha256_of([text, asked]) for text, asked in zip(texts, per_text, strict=True)]
        known = cache.find(keys)
        missing = {key: i for i, key in enumerate(keys) if key not in known}
        if missing:
            new = view.encode(
                [texts[i] for i in missing.values()],
                instruction=[per_text[i] for i in missing.values()],
                **options,
            )
            cache.store(list(missing), new)
            known |= dict(zip(missing, new))
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    def _settings(self, view: Encoder, module: nn.Module, mode: Mode, filtered: Sequence[int]) -> dict[str, Any]:
        """Everything but the text that decides a row."""
        info = view.info.to_dict()
        plain = view.templates["text"].plain
        return {
            "weights": weights_hash(module),
            "encoder": {k: v for k, v in info.items() if k not in ("fingerprint", "model", "title", "revision")},
            "without_instruction": plain,
            "mode": dataclasses.asdict(mode),
            "embedder": type(module).__name__,
            "decoding": dataclasses.asdict(self.decoding) if isinstance(module, AnswerEmbedder) else None,
            "filtered": list(filtered),
            "everywhere": getattr(module, "width", 0),
            "answers": getattr(module, "head", None) is not None,
        }

    # -- answers --------------------------------------------------------------------------------------------

    def _filter_ids(self, words: Sequence[str] | None) -> list[int]:
        """The tokens of words, one by one, without the special tokens around them (which never count anyway)."""
        if not words:
            return []
        if isinstance(words, str):
            raise InputError("filter_words: one str; give a list of words")
        tokens = self.encoder.backbone.tokenizer(check_texts(words), add_special_tokens=False)["input_ids"]
        return sorted({token for one in tokens for token in one})

    def _reencode(self, answers: list[str]) -> Tensor:
        """Another embedder's vectors of the answers."""
        assert self._reencoder is not None
        if isinstance(self._reencoder, str):
            from common.registry import load

            self._reencoder = load("sentence-transformer", self._reencoder, device=str(self.encoder.device))
        vectors = self._reencoder.encode(answers, show_progress_bar=False)
        return torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
