"""`FlagICLModel` as the users of FlagEmbedding know it: a thin face of the one Encoder."""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bge_icl.encoder import load
from bge_icl.examples import Example, check_examples, examples_text
from bge_icl.prompts import EXAMPLE_FORMAT, QUERY_FORMAT, SUFFIX, fill
from common.backbone import pick_device
from common.encoder import Encoder
from common.errors import InputError
from common.prefix_cache import PrefixMemory
from common.prompts import check_texts
from common.tokenization import Tokenized

logger = logging.getLogger(__name__)

PASSAGE_FORMAT = "{}{}"
# Arguments of calls that do nothing here.
WITHOUT_EFFECT = {"return_dense", "show_progress_bar"}
# What `bge_icl.load` takes besides.
LOAD_OPTIONS = ("adapter", "dtype", "quantize", "revision", "attn_implementation", "merge_adapter", "compat")


class FlagICLModel:
    """BGE-ICL with FlagEmbedding's interface; `encoder` is the Encoder behind it.

    The token ids are the released ones. `max_length` counts BOS, instruction, query, suffix and EOS, and not the
    examples, which are never cut: what is too long loses its end, so a short limit can cut away the query (said once).
    Tokens that stand in a text as text (`<query>`) are read as such tokens. Otherwise it does what it says: examples
    can be cleared, empty input gives an array of no rows, each query costs one forward pass, and what the queries have
    in common is run once (`common.prefix_cache`), also over several calls.

    Args:
        model_name_or_path: folder, short name, hub id, or an Encoder, whose weights are then shared.
        normalize_embeddings: L2-normalise.
        use_fp16: fp16 on a GPU; a CPU computes in fp32, as released.
        use_bf16: bf16 on any device.
        query_instruction_for_retrieval: the instruction of `encode_queries`; may be set anew as an attribute.
        query_instruction_format: where instruction and query go.
        suffix: what stands behind a query.
        devices: one device or several; None: all GPUs, else the CPU.
        examples_for_task: dicts with query, response and maybe instruct; see `set_examples`.
        examples_instruction_format: where instruction, query and response of an example go.
        trust_remote_code: accepted; no code from a hub is ever run.
        cache_dir: None; the hub's cache is where HF_HOME says.
        batch_size: texts per batch, at most; the default of each call. Batches are planned by tokens.
        query_max_length: of `encode_queries`. passage_max_length: of `encode_corpus` and `encode`.
        convert_to_numpy: arrays, else tensors on the CPU.
        truncate_dim: keep the first dimensions (before normalising).
        passage_instruction_for_retrieval, passage_instruction_format: of `encode_corpus`; none by default.
        options: adapter, dtype, quantize, revision, attn_implementation, merge_adapter, compat of `bge_icl.load`.

    Raises:
        InputError: an unknown argument (the nearest is named), a bad example, a format without its places.
    """

    def __init__(
        self,
        model_name_or_path: str | Encoder,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = QUERY_FORMAT,
        suffix: str = SUFFIX,
        devices: str | int | Sequence[str | int] | None = None,
        examples_for_task: Sequence[Mapping[str, Any] | Example] | None = None,
        examples_instruction_format: str = EXAMPLE_FORMAT,
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        convert_to_numpy: bool = True,
        truncate_dim: int | None = None,
        passage_instruction_for_retrieval: str | None = None,
        passage_instruction_format: str = PASSAGE_FORMAT,
        pooling_method: str = "last_token",
        **options: Any,
    ) -> None:
        _check_options(options)
        if pooling_method != "last_token":
            raise InputError(f"pooling_method {pooling_method!r}: BGE-ICL pools the last token; leave it out")
        if cache_dir is not None:
            raise InputError(f"cache_dir {cache_dir!r}: set the environment variable HF_HOME instead")
        for pattern, places in (
            (query_instruction_format, 2),
            (examples_instruction_format, 3),
            (passage_instruction_format, 2),
        ):
            fill(pattern, *[""] * places)
        self.devices = _devices(devices)
        if isinstance(model_name_or_path, Encoder):
            encoder = copy.copy(model_name_or_path)
        else:
            dtype = "bfloat16" if use_bf16 else "float16" if use_fp16 and self.devices[0] != "cpu" else "float32"
            encoder = load(model_name_or_path, **{"device": self.devices[0], "dtype": dtype, **options})
        if encoder.backbone.tokenizer.eos_token_id is None:
            raise InputError(f"{encoder.backbone.source.name}: its tokenizer has no EOS, whose state is the embedding")
        self.encoder = encoder
        self.normalize_embeddings = normalize_embeddings
        self.query_instruction_for_retrieval = query_instruction_for_retrieval
        self.query_instruction_format = query_instruction_format
        self.suffix = suffix.replace("\\n", "\n")
        self.examples_instruction_format = examples_instruction_format
        self.passage_instruction_for_retrieval = passage_instruction_for_retrieval
        self.passage_instruction_format = passage_instruction_format
        self.batch_size = batch_size
        self.query_max_length = query_max_length
        self.passage_max_length = passage_max_length
        self.convert_to_numpy = convert_to_numpy
        self.truncate_dim = truncate_dim
        self._memory = PrefixMemory()
        self._warned = False
        self.set_examples(examples_for_task)

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The trunk."""
        return self.encoder.backbone.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.encoder.backbone.tokenizer

    @property
    def prefix(self) -> str:
        """What stands before every query: the examples, "" where there are none.

        Made anew at each use, so that examples without `instruct` follow the instruction of the queries.
        """
        return examples_text(
            self.examples_for_task, self.query_instruction_for_retrieval, self.examples_instruction_format
        )

    def set_examples(self, examples_for_task: Sequence[Mapping[str, Any] | Example] | None = None) -> None:
        """Put these examples before every query from now on; None or [] clears them.

        Examples without `instruct` take the instruction of the queries.

        Raises:
            InputError: naming the index of the first example that is wrong; the examples are then unchanged.
        """
        examples = check_examples(examples_for_task, "examples_for_task")
        examples_text(examples, self.query_instruction_for_retrieval, self.examples_instruction_format)
        self.examples_for_task = examples

    @staticmethod
    def get_detailed_instruct(instruction_format: str, instruction: str, query: str) -> str:
        """A query with its instruction."""
        return fill(instruction_format, instruction, query)

    @staticmethod
    def get_detailed_example(instruction_format: str, instruction: str, query: str, response: str) -> str:
        """One example, without the blank line behind it."""
        return fill(instruction_format, instruction, query, response)

    # -- encoding -------------------------------------------------------------------------------------------

    def encode_queries(
        self,
        queries: str | Sequence[str],
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **released: Any,
    ) -> np.ndarray | Tensor:
        """Vectors of queries, with instruction and examples: (n, dim) float32; (dim,) for one str, (0, dim) for none.

        Args:
            queries: one or many.
            batch_size: texts per batch, at most.
            max_length: tokens without those of the examples; default: query_max_length.
            convert_to_numpy: an array, else a tensor on the CPU.
            released: arguments that have no effect here.

        Raises:
            InputError: an item is not a str, or examples and limits that are more than the model can read.
        """
        texts = _texts(queries, released, self.encode_queries)
        ids, truncated = self._query_ids(texts, max_length or self.query_max_length)
        return self._vectors(queries, ids, truncated, batch_size, convert_to_numpy)

    def encode_corpus(
        self,
        corpus: str | Sequence[str],
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **released: Any,
    ) -> np.ndarray | Tensor:
        """Vectors of passages, which get no examples; arguments as of `encode_queries`, but passage_max_length."""
        texts = _texts(corpus, released, self.encode_corpus)
        instruction = self.passage_instruction_for_retrieval
        if instruction is not None:
            texts = [fill(self.passage_instruction_format, instruction, text) for text in texts]
        ids, truncated = self._passage_ids(texts, max_length or self.passage_max_length)
        return self._vectors(corpus, ids, truncated, batch_size, convert_to_numpy)

    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **released: Any,
    ) -> np.ndarray | Tensor:
        """Vectors of bare texts, without instruction and examples; arguments as of `encode_corpus`."""
        texts = _texts(sentences, released, self.encode)
        ids, truncated = self._passage_ids(texts, max_length or self.passage_max_length)
        return self._vectors(sentences, ids, truncated, batch_size, convert_to_numpy)

    def query_ids(self, queries: str | Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """The token ids of queries as the model reads them; `tokenizer.decode` shows the prompt."""
        texts = check_texts([queries] if isinstance(queries, str) else queries)
        return self._query_ids(texts, max_length or self.query_max_length)[0]

    def passage_ids(self, corpus: str | Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """The token ids of bare texts as the model reads them."""
        texts = check_texts([corpus] if isinstance(corpus, str) else corpus)
        return self._passage_ids(texts, max_length or self.passage_max_length)[0]

    # -- token ids ------------------------------------------------------------------------------------------

    def _query_ids(self, queries: list[str], max_length: int) -> tuple[list[list[int]], int]:
        """Ids of queries, and how many of them were cut; the steps are those of the released code."""
        instruction, prefix = self.query_instruction_for_retrieval, self.prefix
        texts = queries
        if instruction is not None:
            texts = [fill(self.query_instruction_format, instruction, query) for query in queries]
        suffix = len(self._bare([self.suffix])[0])
        room = max_length - self._added - suffix
        if room < 1:
            raise InputError(f"max_length {max_length}: BOS, suffix and EOS alone have {self._added + suffix} tokens")
        # What is too long is cut by tokens, decoded, and tokenised again with what stands around it.
        cut = {i: self.tokenizer.decode(ids[:room]) for i, ids in enumerate(self._bare(texts)) if len(ids) > room}
        if cut:
            texts = [cut.get(i, text) for i, text in enumerate(texts)]
            self._say_what_was_cut(len(cut), len(queries), instruction, max_length, room)
        limit = (len(self._bare([prefix])[0]) + suffix + max_length + 8) // 8 * 8 + 8
        return self._whole([prefix + text + self.suffix for text in texts], limit)[0], len(cut)

    def _passage_ids(self, texts: list[str], max_length: int) -> tuple[list[list[int]], int]:
        if max_length <= self._added:
            raise InputError(f"max_length {max_length}: BOS and EOS alone have {self._added} tokens")
        return self._whole(texts, max_length)

    @property
    def _added(self) -> int:
        """How many tokens BOS and EOS are."""
        return 1 + (self.tokenizer.bos_token_id is not None)

    def _bare(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # verbose=False: overlong texts are shortened by us, the library's warning would only confuse.
        found = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(found["input_ids"])

    def _whole(self, strings: list[str], limit: int) -> tuple[list[list[int]], int]:
        """Ids with BOS and EOS around them, at most `limit` of them, and how many had more."""
        bare, room = self._bare(strings), limit - self._added
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        # The special tokens are put on here, so they are there whatever the tokenizer would do.
        ids = [[*start, *one[:room], self.tokenizer.eos_token_id] for one in bare]
        longest = max(map(len, ids), default=0)
        most = getattr(self.encoder.backbone.config, "max_position_embeddings", None)
        if most is not None and longest > most:
            raise InputError(f"a text has {longest} tokens, examples included; the model reads {most}; give fewer "
                             "examples, or a lower max_length")  # fmt: skip
        return ids, sum(len(one) > room for one in bare)

    def _say_what_was_cut(self, cut: int, count: int, instruction: str | None, max_length: int, room: int) -> None:
        if self._warned:
            return
        self._warned = True
        limit = f"max_length {max_length}, which counts the instruction, too"
        logger.warning("%d of %d queries were shortened to %s (said once)", cut, count, limit)
        if instruction is None:
            return
        head = len(self._bare([fill(self.query_instruction_format, instruction, "")])[0])
        if head >= room:
            logger.warning("the instruction has %d tokens, with room for %d: of these queries nothing is left; "
                           "raise max_length", head, room)  # fmt: skip

    # -- vectors --------------------------------------------------------------------------------------------

    def _vectors(
        self, given: Any, ids: list[list[int]], truncated: int, batch_size: int | None, convert_to_numpy: bool | None
    ) -> np.ndarray | Tensor:
        if self.truncate_dim is not None and not 1 <= self.truncate_dim <= self.encoder.dim:
            raise InputError(f"truncate_dim {self.truncate_dim}: must be between 1 and {self.encoder.dim}")
        rows = self.batch_size if batch_size is None else batch_size
        if rows < 1:
            raise InputError(f"batch_size {rows}: must be at least 1")
        self.encoder.usage.truncated += truncated
        vectors = self.encoder.encode_tokens(
            Tokenized(ids, truncated),
            batch_size=rows,
            # Copies of the model for other devices are worth their while for more than a batch.
            devices=self.devices if len(self.devices) > 1 and len(ids) > rows else None,
            prefix_cache=self._memory,
        )
        if self.truncate_dim is not None:
            vectors = vectors[:, : self.truncate_dim]
        if self.normalize_embeddings:
            vectors = nn.functional.normalize(vectors, dim=1)
        vectors = vectors[0] if isinstance(given, str) else vectors
        to_numpy = self.convert_to_numpy if convert_to_numpy is None else convert_to_numpy
        return vectors.numpy() if to_numpy else vectors


def _texts(given: Any, released: Mapping[str, Any], function: Any) -> list[str]:
    """The texts of a call, checked, and its further arguments, too."""
    for name in released:
        if name not in WITHOUT_EFFECT:
            known = [*inspect.signature(function).parameters, *WITHOUT_EFFECT]
            raise InputError(f"{function.__name__}: {name} is not known{_nearest(name, known)}")
    return check_texts([given] if isinstance(given, str) else given)


def _check_options(options: Mapping[str, Any]) -> None:
    known = [*inspect.signature(FlagICLModel.__init__).parameters, *LOAD_OPTIONS]
    for name in options:
        if name not in LOAD_OPTIONS:
            raise InputError(f"FlagICLModel: {name} is not known{_nearest(name, known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _devices(devices: str | int | Sequence[str | int] | None) -> list[str]:
    """Names of devices; as released, None means all GPUs, and a number one of them."""
    if devices is None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{i}" for i in range(count)] or [str(pick_device(None))]
    items = [devices] if isinstance(devices, str | int) else list(devices)
    if not items:
        raise InputError("devices: an empty list; leave it out, or name one")
    return [str(pick_device(f"cuda:{d}" if isinstance(d, int) else d)) for d in items]
