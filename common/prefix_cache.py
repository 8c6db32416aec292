"""The common token prefix of many sequences is run once and shared by all of them.

Prompts and few-shot examples come first, so the token sequences of a task begin alike, and in a causal model the states
of those first tokens do not depend on what follows. `share_prefix` finds the prefix on the token ids of whole sequences
(parts tokenised apart need not give the same tokens), decides whether sharing pays, and gives back what is left of each
sequence with an embedder that puts it behind the prefix; `common.prefix_attention` says how that is computed. The
vectors are those of the plain way up to rounding (within 1e-5 once normalised, in fp32), so this is recorded nowhere.

With n sequences of P + s tokens, n (P + s) tokens become P + n s: (P + s) / (P / n + s) is the bound on the gain.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.attention_parts import find_parts, recorded_mode, sliding_layers
from common.cpu_linear import fast_linears
from common.embedder import TRAINING_COMPAT, Embedder
from common.errors import InputError
from common.pooling import COMPAT as POOLING_COMPAT
from common.pooling import pool
from common.prefix_attention import CARRIED, Behind, NotShareable, PrefixStates, attention_to_prefix
from common.tokenization import Span

logger = logging.getLogger(__name__)

# Sharing pays where what it saves is over this part of all tokens (each of those behind a prefix costs up to a fifth
# more, the most in half precision) and over so many tokens that the pass over the prefix is made up for: it reads all
# weights once more, as long as some fifty tokens take on a CPU (measured with SmolLM2-135M); on a GPU it is assumed to
# take as long as a few thousand.
WORTHWHILE_PART = {torch.float32: 1 / 6}
WORTHWHILE_PART_ELSEWHERE = 1 / 3
WORTHWHILE_TOKENS = {"cpu": 48}
WORTHWHILE_TOKENS_ELSEWHERE = 4096


@dataclass(frozen=True)
class Shared:
    """What `share_prefix` found.

    Attributes:
        embedders: take the rests, give the vectors of the whole sequences.
        rests: what is left of each sequence behind the prefix; at least one token.
        pooled: the spans of the rests; None: all tokens.
        tokens_run: tokens of the prefix, as often as it was run.
    """

    embedders: list[PrefixEmbedder]
    rests: list[Sequence[int]]
    pooled: list[Span] | None
    tokens_run: int


class PrefixMemory:
    """The last prefix that was run, for later calls with the same model, whose sequences begin like it.

    It knows the weights by where they are and how often torch saw them change. Who changes them behind torch's back
    (`parameter.data`) must take a new one.
    """

    def __init__(self) -> None:
        self._kept: tuple[object, PrefixEmbedder] | None = None

    def keep(self, embedder: PrefixEmbedder) -> None:
        """Remember this one, and forget the one before."""
        self._kept = (_state_of(embedder.embedder), embedder)

    def recall(self, embedder: Embedder, start: Sequence[int]) -> PrefixEmbedder | None:
        """What was remembered, as far as `start` begins with it; None where nothing fits."""
        if self._kept is None or self._kept[1].embedder is not embedder or self._kept[0] != _state_of(embedder):
            return None
        kept = self._kept[1]
        length = common_start([kept.prefix, start])
        return kept.cut(length) if length else None


PrefixCache = Literal["auto", "off"] | PrefixMemory


def share_prefix(
    embedders: Sequence[nn.Module],
    sequences: Sequence[Sequence[int]],
    pooled: Sequence[Span] | None = None,
    *,
    memory: PrefixMemory | None = None,
    even_if_slower: bool = False,
) -> Shared | None:
    """Run the common prefix of all sequences, where that is possible and pays; None where it is not.

    Args:
        embedders: one, or its copies on several devices; in evaluation mode.
        sequences: token ids.
        pooled: per sequence the span of tokens to pool; None: all.
        memory: of earlier calls; for a single device.
        even_if_slower: share whatever can be shared.
    """
    first = embedders[0]
    if type(first) is not Embedder:  # others read more of the states than the pooled tokens
        return None
    length = common_prefix(first, sequences, pooled)
    if not length or (reason := why_not(first, max(map(len, sequences)))):
        logger.debug("%d common tokens are not shared%s", length, f": {reason}" if length else "")
        return None
    memory = memory if len(embedders) == 1 else None
    known = memory.recall(first, sequences[0][:length]) if memory else None
    known_length = len(known.prefix) if known else 0
    if even_if_slower or is_worthwhile(length, known_length, sequences, first):
        try:
            prefixed = [PrefixEmbedder(e, sequences[0][:length]) for e in embedders]  # type: ignore[arg-type]
        except NotShareable as error:
            logger.debug("%d common tokens are not shared: %s", length, error)
            return None
        if memory:
            memory.keep(prefixed[0])
        run = length * len(embedders)
    elif known and known_length * len(sequences) >= _worthwhile_part(first) * sum(map(len, sequences)):
        prefixed, length, run = [known], known_length, 0
    else:
        return None
    spans = None if pooled is None else [(max(0, a - length), max(0, b - length)) for a, b in pooled]
    logger.debug("%d sequences share the states of their first %d tokens", len(sequences), length)
    return Shared(prefixed, [s[length:] for s in sequences], spans, run)


def common_prefix(embedder: Embedder, sequences: Sequence[Sequence[int]], pooled: Sequence[Span] | None = None) -> int:
    """How many tokens all sequences begin with, and none of them pooled; one at least is left over for each."""
    if not sequences:
        return 0
    spans = [None] * len(sequences) if pooled is None else pooled
    needed = min(_first_needed(embedder, len(s), span) for s, span in zip(sequences, spans))
    if needed <= 0:
        return 0
    return common_start([s[:needed] for s in sequences])


def common_start(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    # What the first and the last in alphabetical order share, all between them share.
    first, last = (pick(sequences, key=tuple) for pick in (min, max))
    return next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))


def _first_needed(embedder: Embedder, length: int, span: Span | None) -> int:
    """The first position whose state the pooling reads."""
    if span is None or span[0] >= span[1]:  # all tokens; so it is where a span is empty, too
        span = (0, length)
    if embedder.pooling == "last":
        return span[1] - 1
    if embedder.pooling in ("mean", "weighted_mean", "max") and not embedder.compat & set(POOLING_COMPAT):
        return span[0]
    return 0


def is_worthwhile(length: int, known: int, sequences: Sequence[Sequence[int]], embedder: nn.Module) -> bool:
    """Whether running a prefix of `length` tokens saves enough where the first `known` of them need not be run."""
    saved = len(sequences) * (length - known) - length
    device = next(embedder.parameters()).device.type
    least = WORTHWHILE_TOKENS.get(device, WORTHWHILE_TOKENS_ELSEWHERE)
    return saved >= least + _worthwhile_part(embedder) * sum(len(s) - known for s in sequences)


def _worthwhile_part(embedder: nn.Module) -> float:
    return WORTHWHILE_PART.get(next(embedder.parameters()).dtype, WORTHWHILE_PART_ELSEWHERE)


def why_not(embedder: Embedder, longest: int) -> str | None:
    """Why sequences of at most `longest` tokens can't share a prefix in this model; None where they can."""
    try:
        parts = find_parts(embedder.trunk)
    except InputError as error:
        return str(error)
    if parts.encoder or parts.problem:
        return f"{parts.name} {parts.problem or 'is bidirectional'}"
    if recorded_mode(parts) != "causal":
        return f"{parts.name} is not causal: the states of the prefix depend on what follows"
    if not getattr(parts.trunk, "_supports_attention_backend", False):
        return f"{parts.name} computes its attention by itself"
    if "position_ids" not in inspect.signature(parts.trunk.forward).parameters:
        return f"{parts.name} takes no positions"
    if _rope_depends_on_length(getattr(parts.config, "rope_parameters", None)):
        return f"{parts.name} turns its positions by the length of the batch"
    window = getattr(parts.config, "sliding_window", None)
    if window is not None and window < longest and any(sliding_layers(parts)):
        return f"{parts.name} has a window of {window} tokens, less than {longest}"
    return None


def _rope_depends_on_length(parameters: object) -> bool:
    if not isinstance(parameters, dict):
        return False
    return parameters.get("rope_type") in ("dynamic", "longrope") or any(
        _rope_depends_on_length(value) for value in parameters.values()
    )


class PrefixEmbedder(nn.Module):
    """An embedder of what follows a prefix; the states of the prefix are computed here, once.

    Args:
        embedder: a causal one that `why_not` has no objection to, in evaluation mode.
        prefix: token ids.

    Raises:
        NotShareable: the model does not call its attention as it should.
    """

    def __init__(self, embedder: Embedder, prefix: Sequence[int]) -> None:
        super().__init__()
        self.embedder = embedder
        self.prefix = tuple(prefix)
        self.states = PrefixStates()
        parts = find_parts(embedder.trunk)
        self.config = parts.config
        with torch.inference_mode(), fast_linears(embedder):
            ids = torch.tensor([self.prefix], device=next(embedder.parameters()).device)
            self._run(ids, torch.arange(len(self.prefix), device=ids.device)[None], Behind(self.states))
        self.states.finish(len(parts.layers))

    def cut(self, length: int) -> PrefixEmbedder:
        """The same behind the first `length` tokens alone; nothing is run, nothing copied."""
        if length == len(self.prefix):
            return self
        shorter = copy.copy(self)
        shorter.prefix, shorter.states = self.prefix[:length], self.states.cut(length)
        return shorter

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pool_mask: Tensor | None = None) -> Tensor:
        """Vectors (B, D), fp32, of rests (B, T) padded on the right; pool_mask (B, T): which of them are pooled."""
        embedder = self.embedder
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids) + len(self.prefix)
        places = attention_mask.flatten().nonzero()[:, 0]
        packed = places.numel() < input_ids.numel()
        behind = Behind(self.states, tuple(input_ids.shape), places) if packed else Behind(self.states)  # type: ignore[arg-type]
        states = behind.spread(self._run(behind.pack(input_ids), behind.pack(positions), behind), 1)
        compat = embedder.compat - TRAINING_COMPAT
        return pool(states, attention_mask, embedder.pooling, pool_mask=pool_mask, compat=compat).float()

    def _run(self, ids: Tensor, positions: Tensor, behind: Behind) -> Tensor:
        carried = {CARRIED: behind}
        with attention_to_prefix(self.config):
            output = self.embedder.trunk(input_ids=ids, position_ids=positions, use_cache=False, **carried)
        return output.last_hidden_state


def _state_of(embedder: Embedder) -> object:
    """What tells whether the weights, or the adapters in use, are still the same."""
    weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in embedder.parameters()]
    layers: list[Any] = [m for m in embedder.modules() if hasattr(m, "merged_adapters")]  # of PEFT
    adapters = [(tuple(m.active_adapters), m.disable_adapters, tuple(m.merged_adapters)) for m in layers]
    return weights, adapters, embedder.training
