"""Run token sequences through an embedder in planned batches, on one device or several."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.batching import pad, plan, span_mask
from common.cpu_linear import fast_linears
from common.prefix_cache import PrefixCache, PrefixEmbedder, PrefixMemory, share_prefix

logger = logging.getLogger(__name__)

# Padded tokens per batch: enough rows to keep the matrix units busy; on a CPU few enough per thread to stay in
# the caches and in memory that the allocator keeps (docs/lab-notes.md: on one thread batches of 4096 tokens took
# 1.3 to 2.3 times as long as batches of 512), on a GPU few enough for its memory.
CPU_TOKENS_PER_THREAD = 512
DEFAULT_TOKENS = {"cuda": 65536, "mps": 8192}
# A progress bar from this many tokens on: work long enough that somebody would wonder.
TOKENS_WORTH_A_BAR = 100_000


def default_tokens(device: torch.device) -> int:
    """Padded tokens per batch where the caller names no number."""
    return DEFAULT_TOKENS.get(device.type) or CPU_TOKENS_PER_THREAD * torch.get_num_threads()


def run_batches(
    embedder: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    pooled: Sequence[tuple[int, int]] | None = None,
    max_rows: int | None = None,
    max_tokens: int | None = None,
    show_progress: bool | None = None,
    devices: Sequence[str] | None = None,
    prefix_cache: PrefixCache = "auto",
) -> tuple[Tensor, int]:
    """Vectors (n, D), fp32 on the CPU, in the order of `sequences`, and the number of tokens run, padding included.

    `pooled`: per sequence the span of tokens to pool (`common.tokenization.Tokenized`); None: all.
    `prefix_cache`: "auto" runs what all sequences begin with once, where that pays (`common.prefix_cache`).
    On out-of-memory the token budget is halved, for this batch and all later ones, and the work goes on.
    """
    home = next(embedder.parameters()).device
    budget = max_tokens or default_tokens(home)
    hidden = not show_progress if show_progress is not None else sum(map(len, sequences)) < TOKENS_WORTH_A_BAR
    # Each module's own mode comes back: a frozen trunk in a training embedder must not start to drop out.
    modes = [(module, module.training) for module in embedder.modules()]
    embedder.eval()
    try:
        with tqdm(total=len(sequences), desc="encode", unit="text", disable=hidden, leave=False) as bar:
            workers = _replicas(embedder, devices, home)
            shared = None
            if prefix_cache != "off":
                memory = prefix_cache if isinstance(prefix_cache, PrefixMemory) else None
                shared = share_prefix([worker for worker, _ in workers], sequences, pooled, memory=memory)
            if shared is not None:
                workers = [(prefixed, device) for prefixed, (_, device) in zip(shared.embedders, workers)]
                sequences, pooled = shared.rests, shared.pooled
            batches = plan([len(s) for s in sequences], budget, max_rows)
            run = _Run(sequences, pooled, pad_id, budget, bar)
            run.padded_tokens = shared.tokens_run if shared else 0
            if len(workers) == 1:
                for batch in batches:
                    run.batch(*workers[0], batch)
            else:
                free: SimpleQueue[tuple[nn.Module, torch.device]] = SimpleQueue()
                for worker in workers:
                    free.put(worker)

                def with_free_worker(batch: list[int]) -> None:
                    worker = free.get()
                    try:
                        run.batch(*worker, batch)
                    finally:
                        free.put(worker)

                with ThreadPoolExecutor(len(workers)) as pool:
                    list(pool.map(with_free_worker, batches))
    finally:
        for module, training in modes:
            module.training = training
    assert run.vectors is not None, "run_batches needs at least one sequence"
    return run.vectors, run.padded_tokens


class _Run:
    """The state that batches share: the output, the current token budget, the progress bar."""

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        pooled: Sequence[tuple[int, int]] | None,
        pad_id: int,
        budget: int,
        bar: tqdm,
    ) -> None:
        self.sequences = sequences
        self.pooled = pooled
        self.pad_id = pad_id
        self.budget = budget
        self.bar = bar
        self.vectors: Tensor | None = None
        self.padded_tokens = 0
        self.lock = threading.Lock()

    def batch(self, embedder: nn.Module, device: torch.device, rows: list[int]) -> None:
        """Fill in the vectors of one batch, in halves where memory does not suffice for the whole."""
        pending = [rows]
        while pending:
            rows = pending.pop()
            longest = max(len(self.sequences[i]) for i in rows)
            if len(rows) > 1 and len(rows) * longest > self.budget:
                pending += _halves(rows)
                continue
            ids, mask = pad([self.sequences[i] for i in rows], self.pad_id, device=device)
            inputs = [ids, mask]
            if self.pooled is not None:
                inputs.append(span_mask([self.pooled[i] for i in rows], ids.shape[1], device=device))
            try:
                with torch.inference_mode(), fast_linears(embedder):
                    vectors = embedder(*inputs).to("cpu", torch.float32)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or len(rows) == 1:
                    raise
                with self.lock:
                    self.budget = max(1, min(self.budget, ids.numel()) // 2)
                logger.warning("out of memory with %d x %d tokens; going on with %d", *ids.shape, self.budget)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                pending += _halves(rows)
                continue
            with self.lock:  # workers share the output: two that both made it would lose one's vectors
                if self.vectors is None:
                    self.vectors = torch.empty((len(self.sequences), vectors.shape[1]))
                self.vectors[rows] = vectors
                packed = isinstance(embedder, PrefixEmbedder)  # runs no padding
                self.padded_tokens += sum(len(self.sequences[i]) for i in rows) if packed else ids.numel()
                self.bar.update(len(rows))


def _halves(rows: list[int]) -> list[list[int]]:
    middle = len(rows) // 2
    return [rows[middle:], rows[:middle]]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _replicas(
    embedder: nn.Module, devices: Sequence[str] | None, home: torch.device
) -> list[tuple[nn.Module, torch.device]]:
    if not devices:
        return [(embedder, home)]
    workers = []
    for i, name in enumerate(devices):
        device = torch.device(name)
        # Each worker needs a module of its own: fast_linears and attention hooks act on the module.
        workers.append((embedder if i == 0 and device == home else copy.deepcopy(embedder).to(device), device))
    return workers
