"""Many instructions over one corpus: each text is run once, and all its instructions share it.

Where a template puts the text before the instruction, the token sequences of one text under several instructions
begin alike. They are run as one sequence, the shared prefix first and then the rests, one behind the other:

    prefix | rest of instruction 1 | rest of instruction 2 | ...

A rest sees the prefix and itself, not the other rests, and its positions go on from the prefix, so each of its states
is what it would be behind the prefix alone: the keys and values of the text are computed once and used by all. With 200
tokens of text, 25 of each rest and 4 instructions that is 300 tokens in place of 900.

The prefix is read off the token ids of whole sequences, so no cut can change a token. Only a causal model can share:
for all others, and where the state of the last token is not what is pooled, every instruction is an ordinary pass.
(`common.prefix_cache` is for the opposite shape: one prefix before many texts.)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.attention_parts import find_parts
from common.batching import distinct
from common.embedder import Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.forward import run_batches
from common.packed_attention import IMPLEMENTATIONS, attention_function, layout_of, packed_attention
from common.prefix_cache import why_not
from common.prompts import check_texts

logger = logging.getLogger(__name__)

# Tokens of rests behind one prefix, at most, so that one text with its questions is no batch that memory can't hold.
REST_TOKENS = 2048
# Texts whose token ids are held at a time: the ids of a large corpus under many instructions would fill the memory.
TEXTS_AT_ONCE = 8192


def encode_many(
    encoder: Encoder,
    texts: Sequence[str],
    instructions: Sequence[str],
    *,
    batch_size: int | None = None,
    max_batch_tokens: int | None = None,
    normalize_embeddings: bool = False,
    convert_to_tensor: bool = False,
    show_progress_bar: bool | None = None,
    devices: Sequence[str] | None = None,
) -> Any:
    """Vectors of every text under every instruction; those of `encoder.encode(texts, instruction=...)`, one by one.

    Args:
        encoder: its template takes an instruction.
        texts: n texts.
        instructions: I instructions.
        batch_size: texts per batch, at most.
        max_batch_tokens: padded tokens per batch; None picks by device.
        normalize_embeddings: L2-normalise.
        convert_to_tensor: a tensor on the CPU in place of a numpy array.
        show_progress_bar: None shows it when the work takes a while.
        devices: run on several.

    Returns:
        (I, n, D) float32.

    Raises:
        InputError: a single str in place of a list, a template without a place for an instruction, or a vector that
            is not finite.
    """
    for name, value in (("texts", texts), ("instructions", instructions)):
        if isinstance(value, str):
            raise InputError(f"{name}: one str; give a list of them")
    wanted, which = distinct(check_texts(instructions))
    items, where = distinct(check_texts(texts))
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "max_batch_tokens": max_batch_tokens,
        "show_progress_bar": show_progress_bar,
        "devices": devices,
    }
    if not items or not wanted:
        encoder.encode([], **options)
        vectors = torch.zeros((len(which), len(where), encoder.dim))
        return vectors if convert_to_tensor else vectors.numpy()
    reason = why_apart(encoder)
    if reason is None and len(wanted) > 1:
        blocks = [items[i : i + TEXTS_AT_ONCE] for i in range(0, len(items), TEXTS_AT_ONCE)]
        vectors = torch.cat([_shared(encoder, block, wanted, **options) for block in blocks], dim=1)
        encoder.usage.texts += len(where) * len(which)
    else:
        if reason is not None:
            logger.info("every instruction is a pass of its own: %s", reason)
        passes = [encoder.encode(items, instruction=i, convert_to_tensor=True, **options) for i in wanted]
        vectors = torch.stack(passes)
    vectors = vectors[which][:, where]
    finite = torch.isfinite(vectors).all(dim=2).all(dim=0)
    if not bool(finite.all()):
        i = int((~finite).nonzero()[0])
        raise InputError(f"texts[{i}]: its vector is not finite ({encoder.backbone.dtype}); try --dtype float32")
    if normalize_embeddings or encoder.normalize:
        vectors = nn.functional.normalize(vectors, dim=2)
    return vectors if convert_to_tensor else vectors.numpy()


def why_apart(encoder: Encoder) -> str | None:
    """Why the instructions of one text can't share it; None where they can."""
    if encoder.pooling != "last" or encoder.pooled != "all" or type(encoder.embedder) is not Embedder:
        return f"pooling {encoder.pooling!r} of {encoder.pooled!r} is not the state of the last token"
    parts = find_parts(encoder.backbone.model)
    implementation = parts.config._attn_implementation
    if implementation not in IMPLEMENTATIONS:
        return f"attn_implementation {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}"
    try:
        attention_function(parts.trunk, implementation)
    except LookupError as error:
        return str(error)
    return why_not(encoder.embedder, encoder.max_length)


def _shared(
    encoder: Encoder,
    texts: list[str],
    instructions: list[str],
    *,
    batch_size: int | None,
    max_batch_tokens: int | None,
    show_progress_bar: bool | None,
    devices: Sequence[str] | None,
) -> Tensor:
    """Vectors (I, n, D) of distinct texts under distinct instructions."""
    ids = [encoder.tokens(texts, "text", instruction).ids for instruction in instructions]
    prefixes = [_common_prefix([ids[j][i] for j in range(len(instructions))]) for i in range(len(texts))]
    longest = [max(len(row[i]) - prefixes[i] for i in range(len(texts))) for row in ids]
    parts = []
    for group in _groups(longest, REST_TOKENS):
        rows = [_pack(prefix, [ids[j][i] for j in group]) for i, prefix in enumerate(prefixes)]
        vectors, padded = run_batches(
            SharedPrefixEmbedder(encoder.embedder.trunk, len(group)),
            rows,
            pad_id=encoder.backbone.tokenizer.pad_token_id or 0,
            max_rows=batch_size,
            max_tokens=max_batch_tokens,
            show_progress=show_progress_bar,
            devices=devices,
        )
        header = (len(group) + 1) * len(rows)
        encoder.usage.sequences += len(rows)
        encoder.usage.tokens += sum(map(len, rows)) - header
        encoder.usage.padded_tokens += padded
        parts.append(vectors.view(len(rows), len(group), -1).transpose(0, 1))
    return torch.cat(parts)


def _common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with; one at least is left over for each."""
    most = min(map(len, sequences)) - 1
    return next((i for i, tokens in enumerate(zip(*sequences)) if i == most or len(set(tokens)) > 1), most)


def _groups(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Consecutive positions whose lengths add up to at most `most`; one that is longer is a group by itself."""
    groups: list[list[int]] = []
    total = 0
    for i, length in enumerate(lengths):
        if not groups or total + length > most:
            groups.append([])
            total = 0
        groups[-1].append(i)
        total += length
    return groups


def _pack(prefix: int, sequences: Sequence[Sequence[int]]) -> list[int]:
    """One row of `SharedPrefixEmbedder`: the lengths of prefix and rests, then their tokens."""
    row = [prefix, *(len(s) - prefix for s in sequences), *sequences[0][:prefix]]
    for sequence in sequences:
        row += sequence[prefix:]
    return row


class SharedPrefixEmbedder(nn.Module):
    """Packed rows -> the state of the last token of every rest.

    A row holds k + 1 lengths (of the prefix and of k rests) and behind them the tokens in the same order; so each
    batch brings along how it is to be read, and `common.forward.run_batches` plans it like any other.

    Args:
        trunk: a causal trunk that `why_apart` has no objection to.
        rests: k.
    """

    def __init__(self, trunk: nn.Module, rests: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.rests = rests

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Vectors (B, k x D), fp32, of rows (B, k + 1 + T), padded on the right."""
        header = self.rests + 1
        lengths = rows[:, :header]
        widths = lengths.amax(dim=0).tolist()
        # In the batch each part gets columns of its own, and is padded there.
        part = torch.arange(header, device=rows.device).repeat_interleave(torch.tensor(widths, device=rows.device))
        offset = torch.cat([torch.arange(width, device=rows.device) for width in widths])
        real = offset < lengths[:, part]
        source = header + (lengths.cumsum(dim=1) - lengths)[:, part] + offset
        ids = rows.gather(1, source.clamp_(max=rows.shape[1] - 1))
        positions = (offset + (part > 0) * lengths[:, :1]).masked_fill(~real, 0)

        config = find_parts(self.trunk).config
        dtype = self.trunk.get_input_embeddings().weight.dtype  # type: ignore[operator]
        layout = layout_of(lengths, widths, config._attn_implementation, dtype)
        with packed_attention(config, layout) as carried:
            states = self.trunk(input_ids=ids, position_ids=positions, use_cache=False, **carried).last_hidden_state
        starts = torch.tensor([sum(widths[:j]) for j in range(1, header)], device=rows.device)
        last = (starts + lengths[:, 1:] - 1)[:, :, None].expand(-1, -1, states.shape[2])
        return states.gather(1, last).flatten(1).float()
