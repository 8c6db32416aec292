"""Run token sequences through an embedder in planned batches, on one device or several."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.batching import pad, plan
from common.cpu_linear import fast_linears

logger = logging.getLogger(__name__)

# Enough rows to keep the matrix units busy, few enough to stay near the caches (CPU) and in memory (GPU).
DEFAULT_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 8192}
# A progress bar from this many tokens on: work long enough that somebody would wonder.
TOKENS_WORTH_A_BAR = 100_000


def run_batches(
    embedder: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    pad_id: int,
    max_rows: int | None = None,
    max_tokens: int | None = None,
    show_progress: bool | None = None,
    devices: Sequence[str] | None = None,
) -> tuple[Tensor, int]:
    """Vectors (n, D), fp32 on the CPU, in the order of `sequences`, and the number of padded tokens run.

    On out-of-memory the token budget is halved, for this batch and all later ones, and the work goes on.
    """
    home = next(embedder.parameters()).device
    budget = max_tokens or DEFAULT_TOKENS.get(home.type, DEFAULT_TOKENS["cpu"])
    batches = plan([len(s) for s in sequences], budget, max_rows)
    hidden = not show_progress if show_progress is not None else sum(map(len, sequences)) < TOKENS_WORTH_A_BAR
    was_training = embedder.training
    embedder.eval()
    try:
        with tqdm(total=len(sequences), desc="encode", unit="text", disable=hidden, leave=False) as bar:
            run = _Run(sequences, pad_id, budget, bar)
            workers = _replicas(embedder, devices, home)
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
        embedder.train(was_training)
    assert run.vectors is not None, "run_batches needs at least one sequence"
    return run.vectors, run.padded_tokens


class _Run:
    """The state that batches share: the output, the current token budget, the progress bar."""

    def __init__(self, sequences: Sequence[Sequence[int]], pad_id: int, budget: int, bar: tqdm) -> None:
        self.sequences = sequences
        self.pad_id = pad_id
        self.budget = budget
        self.bar = bar
        self.vectors: Tensor | None = None
        self.padded_tokens = 0

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
            try:
                with torch.inference_mode(), fast_linears(embedder):
                    vectors = embedder(ids, mask).to("cpu", torch.float32)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or len(rows) == 1:
                    raise
                self.budget = max(1, min(self.budget, ids.numel()) // 2)
                logger.warning("out of memory with %d x %d tokens; going on with %d", *ids.shape, self.budget)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                pending += _halves(rows)
                continue
            if self.vectors is None:
                self.vectors = torch.empty((len(self.sequences), vectors.shape[1]))
            self.vectors[rows] = vectors
            self.padded_tokens += ids.numel()
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
