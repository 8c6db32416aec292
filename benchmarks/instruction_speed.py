"""`python -m benchmarks speed --instructions N`: what N questions about the same texts cost.

Measured in turns, on texts of a chosen length:

    trunk      the bare trunk over the batches that one pass is planned into: nothing can be cheaper for one question
    one        `Encoder.encode` with one instruction, tokenising and pooling included
    generate   transformers' `generate` of three tokens for the same prompts: what answering costs
    apart      one pass for each instruction
    shared     `common.many_instructions.encode_many`: the text run once, each question behind it

The bound of the speed-up is that of the token counts: tokens of the passes apart by tokens of the shared one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.turns import in_turns
from common import registry
from common.attention_parts import find_parts
from common.batching import pad, plan
from common.cpu_linear import fast_linears
from common.encoder import Encoder
from common.errors import InputError
from common.forward import default_tokens
from common.many_instructions import encode_many, why_apart

GENERATED = 3  # tokens: the released setting
TOLERANCE = 1e-5  # between L2-normalised fp32 vectors (docs/architecture.md)
ASKED = (
    "What is the topic of the text?",
    "Where does it take place?",
    "What does the writer feel?",
    "Who is it about?",
    "When did it happen?",
    "What is the main action?",
    "Which kind of text is it?",
    "Why was it written?",
)


@dataclass(frozen=True)
class InstructionReport:
    """The cost of several instructions over the same texts.

    Attributes:
        model, method, dtype: what was run.
        texts, text_tokens: how many texts, and the tokens of each (without prompt).
        instructions: how many.
        seconds: of every turn, by contender (see the module).
        tokens_apart, tokens_shared: real tokens through the trunk per turn.
        difference: largest absolute difference of a normalised vector, shared against apart.
        apart_because: why nothing was shared; None if it was.
    """

    model: str
    method: str
    dtype: str
    texts: int
    text_tokens: int
    instructions: int
    seconds: dict[str, list[float]]
    tokens_apart: int
    tokens_shared: int
    difference: float
    apart_because: str | None

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the turns of the seconds of `slow` by those of `fast`; not a number if one was not run."""
        pairs = zip(self.seconds.get(slow, []), self.seconds.get(fast, []))
        return statistics.median([a / b for a, b in pairs] or [float("nan")])

    @property
    def bound(self) -> float:
        """The speed-up by token count."""
        return self.tokens_apart / self.tokens_shared

    @property
    def equal(self) -> bool:
        """Whether sharing leaves the vectors as they are; other precisions than fp32 are not judged."""
        return self.dtype != "float32" or self.difference <= TOLERANCE

    def summary(self) -> dict[str, float]:
        """The ratios by name."""
        speedup = self.ratio("apart", "shared")
        return {
            "encode_by_trunk": self.ratio("one", "trunk"),
            "generate_by_encode": self.ratio("generate", "one"),
            "speedup": speedup,
            "bound": self.bound,
            "share_of_bound": speedup / self.bound,
        }


def measure(
    model: str,
    method: str,
    texts: Sequence[str],
    *,
    instructions: int,
    text_tokens: int,
    repeats: int,
    dtype: str = "auto",
    device: str | None = None,
) -> InstructionReport:
    """Run all contenders in turns.

    Args:
        model: folder, short name or hub id. method: one with an instruction in its template.
        texts: raw material; texts of `text_tokens` tokens are cut from it (see `of_length`).
        instructions: how many of `ASKED`.
        text_tokens: tokens per text.
        repeats: turns.
        dtype, device: of the model.

    Raises:
        InputError: more instructions than there are, or a method that takes none.
    """
    if not 1 <= instructions <= len(ASKED):
        raise InputError(f"--instructions {instructions}: 1 to {len(ASKED)}")
    encoder = registry.load(method, model, dtype=dtype, device=device)
    if "{instruction}" not in encoder.template_for("text").pattern:
        raise InputError(f"--method {method}: its prompt has no place for an instruction")
    corpus = of_length(encoder.backbone.tokenizer, texts, text_tokens)
    asked = list(ASKED[:instructions])
    quietly: dict[str, Any] = {"show_progress_bar": False}
    contenders: dict[str, Callable[[], Any]] = {
        "trunk": bare_trunk(encoder, encoder.tokens(corpus, "text", asked[0]).ids),
        "one": lambda: encoder.encode(corpus, instruction=asked[0], **quietly),
        "apart": lambda: np.stack([encoder.encode(corpus, instruction=i, **quietly) for i in asked]),
        "shared": lambda: encode_many(encoder, corpus, asked, **quietly),
    }
    if encoder.backbone.is_decoder and encoder.backbone.source.name and not encoder.info.adapter:
        contenders["generate"] = generation(encoder, encoder.tokens(corpus, "text", asked[0]).ids)
    counts: dict[str, int] = {}
    found: dict[str, Any] = {}
    for name, run in contenders.items():  # the first turn warms up and counts
        before = encoder.usage.tokens
        found[name] = run()
        counts[name] = encoder.usage.tokens - before
    return InstructionReport(
        model=encoder.info.title,
        method=method,
        dtype=encoder.info.dtype,
        texts=len(corpus),
        text_tokens=text_tokens,
        instructions=instructions,
        seconds=in_turns(contenders, repeats, label=model)[0],
        tokens_apart=counts["apart"],
        tokens_shared=counts["shared"],
        difference=float(np.abs(_normalised(found["apart"]) - _normalised(found["shared"])).max()),
        apart_because=why_apart(encoder),
    )


def of_length(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Texts of about so many tokens each, made of the given ones in their order (tokens at a seam may merge)."""
    ids = [token for text in texts for token in tokenizer(f"{text} ", add_special_tokens=False)["input_ids"]]
    if len(ids) < tokens:
        raise InputError(f"--text_tokens {tokens}: the texts have {len(ids)} tokens in all; give more --texts")
    return [tokenizer.decode(ids[i : i + tokens]) for i in range(0, len(ids) - tokens + 1, tokens)]


def bare_trunk(encoder: Encoder, ids: Sequence[Sequence[int]]) -> Callable[[], None]:
    """The trunk alone over the batches that `encode` plans; tokenised and padded before the clock starts."""
    device = encoder.device
    pad_id = encoder.backbone.tokenizer.pad_token_id or 0
    batches = [
        pad([ids[i] for i in rows], pad_id, device=device)
        for rows in plan([len(row) for row in ids], default_tokens(device))
    ]
    trunk = find_parts(encoder.backbone.model).trunk

    def run() -> None:
        with torch.inference_mode(), fast_linears(trunk):
            for rows, mask in batches:
                padded = bool((mask == 0).any())
                trunk(input_ids=rows, attention_mask=mask if padded else None, use_cache=False)
        _wait(device)

    return run


def generation(encoder: Encoder, ids: Sequence[Sequence[int]]) -> Callable[[], None]:
    """transformers' `generate` of `GENERATED` tokens, greedy, in the same batches, padded on the left."""
    from transformers import AutoModelForCausalLM

    source = encoder.backbone.source
    model: Any = AutoModelForCausalLM.from_pretrained(
        source.path,
        **source.load_options,
        dtype=encoder.backbone.dtype,
        attn_implementation=encoder.backbone.config._attn_implementation,
    )
    model = model.to(encoder.device).eval()
    pad_id = encoder.backbone.tokenizer.pad_token_id or 0
    batches = []
    for rows in plan([len(row) for row in ids], default_tokens(encoder.device)):
        width = max(len(ids[i]) for i in rows)
        padded = torch.tensor([[pad_id] * (width - len(ids[i])) + list(ids[i]) for i in rows], device=encoder.device)
        mask = torch.tensor([[0] * (width - len(ids[i])) + [1] * len(ids[i]) for i in rows], device=encoder.device)
        batches.append((padded, mask))

    def run() -> None:
        with torch.inference_mode(), fast_linears(model) if encoder.device.type == "cpu" else nullcontext():
            for rows, mask in batches:
                model.generate(
                    input_ids=rows,
                    attention_mask=mask,
                    max_new_tokens=GENERATED,
                    min_new_tokens=GENERATED,
                    do_sample=False,
                    pad_token_id=pad_id,
                )
        _wait(encoder.device)

    return run


def table(report: InstructionReport) -> str:
    """The report as text."""
    from prettytable import PrettyTable

    names = {
        "trunk": "bare trunk, one instruction",
        "one": "encode, one instruction",
        "generate": f"generate {GENERATED} tokens, one instruction",
        "apart": f"encode, {report.instructions} instructions apart",
        "shared": f"encode_many, {report.instructions} instructions",
    }
    grid = PrettyTable(["", "seconds", "times encode"], align="r")
    grid.align[""] = "l"
    for name, title in names.items():
        if name in report.seconds:
            grid.add_row([title, f"{statistics.median(report.seconds[name]):.2f}", f"{report.ratio(name, 'one'):.2f}"])
    ratios = report.summary()
    lines = [
        f"{report.model} ({report.method}, {report.dtype}): {report.texts} texts of {report.text_tokens} tokens; "
        f"medians of {len(report.seconds['one'])} turns",
        str(grid),
        f"encode costs {ratios['encode_by_trunk']:.3f} times the bare trunk",
        f"{report.instructions} instructions: {ratios['speedup']:.2f} times as fast shared as apart; bound by token "
        f"count {report.bound:.2f} ({report.tokens_apart:,} by {report.tokens_shared:,} tokens): "
        f"{ratios['share_of_bound']:.0%} of it",
        f"largest difference of a normalised vector, shared against apart: {report.difference:.1e}",
    ]
    if report.apart_because:
        lines.append(f"nothing was shared: {report.apart_because}")
    return "\n".join(lines)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _normalised(vectors: Any) -> np.ndarray | Tensor:
    array = np.asarray(vectors)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)
