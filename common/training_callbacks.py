"""When a training checkpoints and when it ends, besides what transformers itself decides."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from common.distributed import world_size


class SaveByTime(TrainerCallback):
    """Checkpoint when so many minutes have passed since the last one."""

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.last = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock."""
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint when it is time; the first process's clock counts, for all."""
        due = torch.tensor(float(time.monotonic() - self.last >= self.seconds), device=args.device)
        if world_size() > 1:
            torch.distributed.broadcast(due, 0)
        control.should_save = control.should_save or bool(due)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock anew."""
        self.last = time.monotonic()


class TellEpoch(TrainerCallback):
    """Tell the sampler which pass over the data begins.

    accelerate and transformers do so, but not where several processes take up a training within an epoch: the
    sampler is then one wrapper too deep for both, and the order of the first epoch would come again.
    """

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """`state.epoch` counts passes, with a fraction; a resumed training has it from its checkpoint."""
        batches: Any = getattr(kwargs["train_dataloader"], "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        sampler: Any = getattr(batches, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(int(state.epoch or 0))


class StopAtTokens(TrainerCallback):
    """Stop when the token budget is used up."""

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop after the step that reached the budget."""
        if self.max_tokens is not None and state.num_input_tokens_seen >= self.max_tokens:
            control.should_training_stop = True


class StopAfterSteps(TrainerCallback):
    """Stop after so many steps, whatever the schedule was planned for.

    The released LLM2Vec plans its learning rate over all epochs and stops long before: its rate hardly falls.
    `max_steps` would plan it down to zero instead.
    """

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop after that step."""
        if self.steps is not None and state.global_step >= self.steps:
            control.should_training_stop = True
