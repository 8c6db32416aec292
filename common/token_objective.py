"""Training a trunk to predict tokens: cross entropies at a few positions of each row, and the trainer for them.

What InBedder's answers and LLM2Vec's MNTP have in common. The trunk runs once over rows of like length, the head at
the positions that predict and nowhere else; the loss is a mean over the labels of a whole optimiser step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.batching import plan
from common.embedder import SPLIT_TOKENS, Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.training import EmbeddingTrainer

IGNORED = -100  # the label of a token that is not to be predicted
# Padded tokens that are worth a pass of their own.
WORTH_TOKENS = {"cpu": 128, "cuda": 2048}

Head = Callable[[Tensor, nn.Module], Tensor]


def scored(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The states (N, D) that predict, and what they should predict (N,): h[i - 1] for each label i >= 1.

    A label in column 0 has no state before it and is never scored.

    Args:
        states: (B, T, D).
        labels: (B, T), -100 where nothing is to be predicted.
    """
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    return states[:, :-1][chosen], targets[chosen]


def scored_in_place(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As `scored`, for masked models: h[i] predicts the label i."""
    chosen = labels != IGNORED
    return states[chosen], labels[chosen]


def groups_of_rows(labels: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Which rows of a batch go through the trunk together: of like length, those without a label not at all."""
    rows = (labels[:, 1:] != IGNORED).any(dim=1).nonzero().flatten().tolist()
    rows = rows or [0]  # every process must reach its parameters
    kind = labels.device.type
    most, worth = SPLIT_TOKENS.get(kind, SPLIT_TOKENS["cuda"]), WORTH_TOKENS.get(kind, WORTH_TOKENS["cuda"])
    return [[rows[i] for i in group] for group in plan([lengths[i] for i in rows], most, worth=worth)]


class TokenModel(Embedder):
    """A trunk with its head: the loss of labelled tokens, in place of an embedder's vectors.

    Args:
        embedder: whose trunk is trained.
        head: from states (N, D) and the trunk to logits (N, V).
        shifted: the state before a token predicts it (`scored`); else its own state does (`scored_in_place`).
    """

    accepts_loss_kwargs = True  # the trainer then counts the labels of all batches of a step

    def __init__(self, embedder: Embedder, head: Head, *, shifted: bool = True) -> None:
        super().__init__(embedder.trunk, embedder.pooling, embedder.compat)
        self.head = head
        self.shifted = shifted

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, lengths: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Over the scored labels: the sum of the cross entropies, their number, and how many are predicted right.

        Rows (B, T) are padded on the right and hold `lengths` tokens; those of like length go through the trunk
        together, in one graph, and those without a label not at all.
        """
        parts = []
        for group in groups_of_rows(labels, lengths):
            width = max(lengths[i] for i in group)
            parts.append(self._scores(input_ids[group, :width], attention_mask[group, :width], labels[group, :width]))
        loss, count, right = zip(*parts)
        return torch.stack(loss).sum(), torch.stack(count).sum(), torch.stack(right).sum()

    def _scores(self, ids: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Without padding the mask says nothing. (Looking costs a synchronisation on an accelerator.)
        padded = mask.device.type != "cpu" or bool((mask == 0).any())
        output = self.trunk(**self.inputs(ids), attention_mask=mask if padded else None)
        states, targets = (scored if self.shifted else scored_in_place)(output.last_hidden_state, labels)
        logits = self.head(states, self.trunk)
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
        right = (logits.argmax(dim=-1) == targets).sum()
        return loss, torch.tensor(targets.numel(), device=ids.device), right

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """What the trunk reads for token ids (B, T)."""
        return {"input_ids": ids}


class TokenTrainer(EmbeddingTrainer):
    """The shared trainer with a loss of tokens: a mean over the labels of a whole step, of all processes.

    Validation says loss and accuracy of all labelled validation tokens: before, every `eval_steps`, and at the end.
    """

    loss_is_scaled_for_ga = True
    measurements = "scored"  # what training.json calls them

    def __init__(self, encoder: Encoder, objective: Any, config: Any, *others: Any) -> None:
        super().__init__(encoder, objective, config, *others)
        self.args.eval_on_start = self.eval_dataset is not None and config.eval_strategy != "no"

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's part of the mean over the labels of a step."""
        loss, count, right = model(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["lengths"])
        if num_items_in_batch is None:
            loss = loss / count.clamp(min=1)
        else:
            # DDP averages the gradients of the processes; the mean over all their labels is a sum of them.
            loss = loss * self.accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return (loss, {"count": count, "right": right}) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass; on a CPU one for each group of rows.

        The loss is a sum over labels, divided by a number that is known before, so this is the same gradient with
        the memory of one group; a graph takes about 2 GB per 1,000 tokens of SmolLM2-135M.
        """
        groups = groups_of_rows(inputs["labels"], inputs["lengths"])
        if self.args.device.type != "cpu" or len(groups) == 1:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        total = torch.zeros((), device=self.args.device)
        for i, rows in enumerate(groups):
            last = i == len(groups) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                part = {name: inputs[name][rows] for name in ("input_ids", "attention_mask", "labels")}
                part["lengths"] = [inputs["lengths"][row] for row in rows]
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, part, num_items_in_batch=num_items_in_batch)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    # -- validation -------------------------------------------------------------------------------------------

    def eval_batches(self) -> Iterable[Mapping[str, Any]]:
        """Batches with labels, that every process measures all of."""
        rows: Any = self.eval_dataset
        for start in range(0, len(rows), self.config.batch_size):
            yield self.data_collator([rows[i] for i in range(start, min(start + self.config.batch_size, len(rows)))])

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss and accuracy of the labelled validation tokens."""
        done = self.measured()
        if self.eval_dataset is None or (done and done[-1]["step"] == self.state.global_step):
            return {}
        model = self.model_wrapped
        model.eval()
        totals = torch.zeros(3, dtype=torch.float64)
        for batch in self.eval_batches():
            inputs = self._prepare_inputs(dict(batch))
            with torch.no_grad(), self.compute_loss_context_manager():
                parts = model(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["lengths"])
            totals += torch.stack([part.cpu().double() for part in parts])
        loss, count, right = totals.tolist()
        if not count:
            raise InputError(f"{self.eval_source}: no token is to be predicted; give more validation text")
        metrics = {"eval_loss": loss / count, "eval_accuracy": right / count, "eval_tokens": int(count)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @property
    def eval_source(self) -> str:
        """Where the validation rows are from."""
        return str(getattr(self.eval_dataset, "source", "validation"))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and measure at the end, wherever that is."""
        output = super().train(*args, **kwargs)
        if self.args.eval_strategy != "no":
            self.evaluate()
        return output

    def measured(self) -> list[dict[str, Any]]:
        """Step, loss, accuracy and number of tokens of each measurement so far."""
        names = ("loss", "accuracy", "tokens")
        history = [entry for entry in self.state.log_history if "eval_loss" in entry]
        return [{"step": entry["step"], **{name: entry[f"eval_{name}"] for name in names}} for entry in history]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.eval_dataset is not None:
            self.summary["validation"] = {"data": self.eval_source, self.measurements: self.measured()}
        super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.args.eval_on_start = False


def no_objective(columns: Any, labels: Any, *, text_ids: Any = None) -> Tensor:
    """Stands where `common.training.fit` takes a loss of embeddings."""
    raise NotImplementedError("a loss of tokens has no embeddings; see TokenModel")
