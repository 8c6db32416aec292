"""`CausalLMEncoder`, `MaskedLMEncoder` and `InBedder` as the users of the released code know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from common.encoder import Encoder
from common.errors import InputError
from common.model_names import resolve
from common.tokenization import CUT_HEAD
from inbedder.decoding import Decoding, read_decoding, refuse_unknown
from inbedder.defaults import MASK_LENGTH
from inbedder.encoder import load
from inbedder.mode_encoder import ModeEncoder, Reencoder
from inbedder.modes import find_mode, last_output_values, output_values

BARE = "{text}"


class OutputValueEncoder:
    """What the two released encoders share: the caller writes the whole prompt, an output value says what is read.

    A prompt that is too long loses its head, as released: only so do question and `### Response:` survive where the
    parts of the prompt are not known. (`inbedder.load` knows them, and shortens the text.)
    """

    MASKED: ClassVar[bool]
    DEFAULT: ClassVar[str]  # the output value, its layer left out

    def __init__(
        self,
        model_name_or_path: str,
        tokenizer_path: str | None = None,
        output_value: str | None = None,
        max_input_length: int = 512,
        dtype: str = "float32",
        use_flash_attention_2: bool = False,
        cache_embeddings: bool = True,
        last_layer_only: bool = False,
        reencoder: str | Reencoder | None = None,
        *,
        adapter: str | list[str] | None = None,
        device: str | None = None,
        compat: Sequence[str] = (),
        **generation_configs: Any,
    ) -> None:
        """Load a model.

        Args:
            model_name_or_path: folder, short name or hub id.
            tokenizer_path: another tokenizer.
            output_value: see `set_output_value`; default: the last layer's first answer state (mean of the masks).
            max_input_length: tokens.
            dtype: "float32", "bfloat16", "auto".
            use_flash_attention_2: where it is installed.
            cache_embeddings, last_layer_only: without effect: no more than the output value is ever kept.
            reencoder: for "re_encode": a model name, or anything with `encode`.
            adapter: LoRA adapters.
            device: default: what is there.
            compat: names of `inbedder.compat`.
            generation_configs: of a causal model max_new_tokens, do_sample, temperature, top_p, top_k, seed; of a
                masked one mask_length.

        Raises:
            InputError: a model of the other kind, an unknown argument or output value.
        """
        decoding, mask_length = self._generation(dict(generation_configs))
        encoder = load(
            model_name_or_path,
            adapter=adapter,
            template=BARE,
            max_length=max_input_length,
            mask_length=mask_length,
            convention="prompt" if self.MASKED else None,
            compat=compat,
            dtype=dtype,
            device=device,
            attn_implementation="flash_attention_2" if use_flash_attention_2 else None,
        )
        if encoder.backbone.is_decoder == self.MASKED:
            other = CausalLMEncoder if self.MASKED else MaskedLMEncoder
            raise InputError(f"{model_name_or_path}: not for {type(self).__name__}; use {other.__name__}")
        if tokenizer_path is not None:
            source = resolve(tokenizer_path)
            encoder.backbone.tokenizer = AutoTokenizer.from_pretrained(source.path, **source.load_options)
        encoder.compat |= {CUT_HEAD}
        self.encoder = encoder
        self.modes = ModeEncoder(encoder, decoding=decoding, reencoder=reencoder)
        self.set_output_value(output_value or f"{self.DEFAULT}{self.modes.layers}")

    def _generation(self, given: dict[str, Any]) -> tuple[Decoding | None, int | None]:
        """How answers are made, and the number of masks."""
        raise NotImplementedError

    # -- what it is, and where ------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.device

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.encoder.backbone.tokenizer

    @property
    def model(self) -> Any:
        """The trunk; the head is loaded when an answer is needed."""
        return self.encoder.backbone.model

    def to(self, device: str | torch.device) -> Self:
        """Move the model; returns itself."""
        self.encoder.to(device)
        self.modes.to(device)
        return self

    def cuda(self) -> Self:
        """Move the model to CUDA, where there is one; returns itself."""
        self.encoder.cuda()
        self.modes.to(self.device)
        return self

    # -- output values --------------------------------------------------------------------------------------

    def set_output_value(self, output_value: str) -> None:
        """What is read as the embedding, for example "fst_gen_layer_32"; the names of `inbedder.modes` do, too.

        Raises:
            InputError: no such output value, or no such layer.
        """
        find_mode(output_value, -1, masked=self.MASKED, layers=self.modes.layers)
        self.output_value = output_value

    def get_all_output_values(self) -> list[str]:
        """The released output values at all layers."""
        return output_values(masked=self.MASKED, layers=self.modes.layers)

    def get_last_output_values(self) -> list[str]:
        """The released output values at the last layer."""
        return last_output_values(masked=self.MASKED, layers=self.modes.layers)

    # -- encoding -------------------------------------------------------------------------------------------

    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        return_generations: bool = False,
        cache_dir: str | Path | None = None,
        filter_words: Sequence[str] | None = None,
    ) -> Any:
        """Vectors (n, D), float32, of whole prompts, in their order; (D,) for a single str.

        Args:
            sentences: prompts; without an answer wanted or needed, one forward pass and nothing generated.
            batch_size: prompts per batch, at most; default: by tokens.
            show_progress_bar: None shows it when the work takes a while.
            convert_to_numpy: a numpy array; else, or with `convert_to_tensor`, a tensor on the CPU.
            convert_to_tensor: see there.
            normalize_embeddings: L2-normalise.
            return_generations: a pair: vectors, and a list of texts, as released: prompt and answer of a causal
                model; of a masked one what it reads at every token.
            cache_dir: keep what was computed there, by text, weights and mode.
            filter_words: words that count as no answer (causal models only, as released).
        """
        single = isinstance(sentences, str)
        prompts = [sentences] if isinstance(sentences, str) else list(sentences)
        result = self.modes.run(
            prompts,
            self.output_value,
            answers=return_generations,
            everywhere=return_generations and self.MASKED,
            cache_dir=cache_dir,
            filter_words=filter_words,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        vectors = result.vectors
        if normalize_embeddings:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        vectors = vectors[0] if single else vectors
        found: np.ndarray | Tensor = vectors.numpy() if convert_to_numpy and not convert_to_tensor else vectors
        if not return_generations:
            return found
        if self.MASKED:
            return found, self.modes.decode(result.everywhere or [])
        ids = self.encoder.tokens(prompts).ids if prompts else []
        return found, self.modes.decode([[*p, *a] for p, a in zip(ids, result.answers or [])])

    def encode_queries(self, queries: Sequence[str], batch_size: int | None = None, **options: Any) -> Any:
        """As `encode`."""
        return self.encode(queries, batch_size=batch_size, **options)

    def encode_corpus(
        self,
        corpus: Sequence[str] | Sequence[Mapping[str, str]] | Mapping[str, Sequence[str]],
        batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        """As `encode`, of texts, of rows {"title": ..., "text": ...}, or of columns with these names."""
        if isinstance(corpus, Mapping):
            titles = corpus.get("title") or [""] * len(corpus["text"])
            corpus = [{"title": title, "text": text} for title, text in zip(titles, corpus["text"], strict=True)]
        texts = [d if isinstance(d, str) else f"{d.get('title', '')} {d['text']}".strip() for d in corpus]
        return self.encode(texts, batch_size=batch_size, **options)


class CausalLMEncoder(OutputValueEncoder):
    """The released encoder of causal models: `fst_gen_layer_l` and the other modes of `inbedder.modes`."""

    MASKED = False
    DEFAULT = "fst_gen_layer_"

    def _generation(self, given: dict[str, Any]) -> tuple[Decoding | None, int | None]:
        return read_decoding(given), None


class MaskedLMEncoder(OutputValueEncoder):
    """The released encoder of masked models: `mask_length` mask tokens behind the prompt, their mean state."""

    MASKED = True
    DEFAULT = "avg_gen_layer_"

    def _generation(self, given: dict[str, Any]) -> tuple[Decoding | None, int | None]:
        length = given.pop("mask_length", MASK_LENGTH)
        refuse_unknown(given, ("mask_length",))
        return None, length


# The name in the released code; its README has the other one.
MaskededLMEncoder = MaskedLMEncoder


class InBedder:
    """The class of the released `UseCase.ipynb`: a masked model, asked in pairs of text and instruction."""

    def __init__(self, path: str = "KomeijiForce/inbedder-roberta-large", device: str | None = None) -> None:
        self.path, self._device = path, device
        self._encoders: dict[int, Encoder] = {}

    def encode(self, input_texts: Sequence[str], instruction: str | Sequence[str], n_mask: int) -> Tensor:
        """Vectors (n, D), a tensor; one instruction for all texts, or one for each; n_mask: mask tokens."""
        if n_mask not in self._encoders:
            options: dict[str, Any] = {"mask_length": n_mask, "device": self._device}
            self._encoders = {n_mask: load(self.path, convention="pair", **options)}
        return self._encoders[n_mask].encode(list(input_texts), instruction=instruction, convert_to_tensor=True)
