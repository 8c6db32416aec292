"""A linear classifier on frozen word states: all that the word-level evaluation trains.

As in the released code: dropout, one linear layer, the mean cross entropy over the words of 8 sentences, AdamW with a
learning rate that falls linearly over all epochs and a stop long before. Weights and states are fp32 here, bf16 there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from common.errors import InputError
from common.io import write_bytes, write_json
from common.reading import read_json
from common.training_callbacks import StopAfterSteps
from llm2vec.word_data import TaggedSentences
from llm2vec.word_metrics import WordScores, score
from llm2vec.word_recipe import WordConfig, span_kind
from llm2vec.word_states import Aligned, WordStates, batches

logger = logging.getLogger(__name__)

WEIGHTS, SETTINGS = "classifier.safetensors", "classifier.json"


class LinearProbe(nn.Module):
    """Dropout and one linear layer: word states (W, D) -> logits (W, C).

    Args:
        dim: D; labels: the C tags; dropout: in front of the layer.
    """

    def __init__(self, dim: int, labels: Sequence[str], dropout: float = 0.1) -> None:
        super().__init__()
        self.labels = list(labels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, len(self.labels))

    def forward(self, states: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """`logits` (W, C) of states (W, D), and, with labels (W,), `loss`: the mean cross entropy."""
        logits = self.classifier(self.dropout(states))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@dataclass
class TaggedStates(Dataset):
    """The states of the words of sentences, with the tags of one task; an item is the number of a sentence."""

    states: WordStates
    sentences: TaggedSentences
    task: str

    def __post_init__(self) -> None:
        # Sentences of which no word has a state have nothing to learn from.
        self.numbers = [i for i, kept in enumerate(self.aligned.kept) if len(kept)]

    @property
    def aligned(self) -> Aligned:
        """Which words have a state."""
        return self.states.aligned

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> int:
        return self.numbers[index]

    def scored(self, column: Sequence[Sequence[str]]) -> list[list[str]]:
        """Of words or tags per sentence those of the words that have a state."""
        return [[one[j] for j in kept] for one, kept in zip(column, self.aligned.kept, strict=True)]

    @property
    def tags(self) -> list[list[str]]:
        """The tags of the words that have a state."""
        return self.scored(self.sentences.tags[self.task])


class _Collator:
    """Numbers of sentences -> their words' states (W, D) and labels (W,)."""

    def __init__(self, data: TaggedStates, labels: Sequence[str]) -> None:
        self.states = data.states
        index = {label: i for i, label in enumerate(labels)}
        self.targets = [np.array([index[tag] for tag in tags], dtype=np.int64) for tags in data.tags]

    def __call__(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        labels = torch.from_numpy(np.concatenate([self.targets[i] for i in numbers]))
        return {"states": self.states.batch(numbers), "labels": labels}


def fit_probe(
    train: TaggedStates,
    valid: TaggedStates | None,
    config: WordConfig,
    folder: Path,
    *,
    dim: int,
    device: torch.device,
    settings: Mapping[str, Any],
) -> LinearProbe:
    """Train a probe; it ends up in `folder`, with checkpoints beside it.

    Args:
        train: states and tags; the tags that occur there are the classes.
        valid: what to score every `eval_steps`.
        config: the recipe.
        folder: where checkpoints go; those of an earlier probe are removed.
        dim: the width of a state.
        device: where the probe is trained.
        settings: written beside the weights: what the states are of.

    Returns:
        the probe as it was after `config.test_step` steps, or at the end.

    Raises:
        InputError: the folder holds a model; no checkpoint at `test_step`.
    """
    _make_room(folder)
    labels = sorted({tag for tags in train.tags for tag in tags})
    set_seed(config.seed)  # the same first weights whatever was computed before
    probe = LinearProbe(dim, labels, config.classifier_dropout)
    trainer = ProbeTrainer(probe, train, valid, config, _arguments(config, folder, device, valid is not None), settings)
    trainer.train()
    trainer.save_model()
    steps = trainer.state.global_step
    probe.eval()
    if config.test_step is None or config.test_step == steps:
        return probe
    checkpoint = folder / f"checkpoint-{config.test_step}"
    if not checkpoint.is_dir():
        why = f"training ended after {steps}" if steps < config.test_step else "--save_total_limit removed it"
        raise InputError(f"--test_step {config.test_step}: no {checkpoint}: {why}")
    return load_probe(checkpoint)[0].to(device)


class ProbeTrainer(Trainer):
    """`transformers.Trainer` for a probe: saves the classifier alone, scores tags."""

    def __init__(
        self,
        probe: LinearProbe,
        train: TaggedStates,
        valid: TaggedStates | None,
        config: WordConfig,
        arguments: TrainingArguments,
        settings: Mapping[str, Any],
    ) -> None:
        self.valid = valid
        self.settings = dict(settings)
        super().__init__(
            model=probe,
            args=arguments,
            train_dataset=train,
            eval_dataset=valid,
            data_collator=_Collator(train, probe.labels),
            callbacks=[StopAfterSteps(config.stop_after_n_steps)],
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Token accuracy and F1 on the validation sentences."""
        assert self.valid is not None
        assert isinstance(self.model, LinearProbe)
        found = scores_of(self.model, self.valid)
        metrics = {"eval_token_accuracy": found.token_accuracy}
        if found.spans:
            metrics[f"eval_{found.spans.kind}_f1"] = found.spans.f1
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        assert isinstance(self.model, LinearProbe)
        folder = Path(output_dir or str(self.args.output_dir))
        save_probe(self.model, folder, {**self.settings, "steps": self.state.global_step})

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A classifier needs none; the result file says what it is."""


def _arguments(config: WordConfig, folder: Path, device: torch.device, validate: bool) -> TrainingArguments:
    """The recipe in the words of transformers."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type=config.lr_scheduler_type,
        optim=config.optim,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,  # states may be on the device already
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=config.logging_steps,
        report_to=list(config.report_to),
        save_strategy=config.save_strategy,
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        save_only_model=True,  # a probe is trained in a minute; there is nothing to resume
        eval_strategy=config.eval_strategy if validate else "no",
        eval_steps=config.eval_steps,
    )


def _make_room(folder: Path) -> None:
    """Take away the checkpoints of an earlier probe, and nothing else."""
    for name in ("config.json", "adapter_config.json", "modules.json"):
        if (folder / name).is_file():
            raise InputError(f"{folder}: holds a model; give the classifier an --output_dir of its own")
    for old in folder.glob("checkpoint-*"):
        if (old / SETTINGS).is_file():
            shutil.rmtree(old)


@torch.no_grad()
def predict(probe: LinearProbe, states: WordStates) -> list[NDArray[np.int64]]:
    """The number of the likeliest tag (K,) of each word with a state, per sentence."""
    aligned = states.aligned
    found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * len(aligned)
    training = probe.training
    probe.eval()
    weight = probe.classifier.weight
    for numbers in batches(aligned, states.max_tokens):
        best = probe(states.batch(numbers).to(weight.device))["logits"].argmax(dim=-1).cpu().numpy()
        sizes = [len(aligned.kept[i]) for i in numbers]
        for i, part in zip(numbers, np.split(best, np.cumsum(sizes)[:-1])):
            found[i] = part
    probe.train(training)
    return found


def predicted_tags(probe: LinearProbe, states: WordStates) -> list[list[str]]:
    """The likeliest tag of each word with a state, per sentence."""
    return [[probe.labels[i] for i in numbers] for numbers in predict(probe, states)]


def scores_of(probe: LinearProbe, data: TaggedStates) -> WordScores:
    """How well a probe tags sentences."""
    return score(data.tags, predicted_tags(probe, data.states), span_kind(data.task))


def save_probe(probe: LinearProbe, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write weights, labels, and what the states are of."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in probe.classifier.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(weights))
    write_json(folder / SETTINGS, {"labels": probe.labels, "dropout": probe.dropout.p, **settings})


def load_probe(folder: Path) -> tuple[LinearProbe, dict[str, Any]]:
    """A probe and the settings saved with it.

    Raises:
        InputError: there is none in the folder.
    """
    if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
        pickled = folder / "classifier.pt"
        if pickled.is_file():
            raise InputError(f"{pickled}: a pickled classifier of the released code is not opened; train it here")
        raise InputError(f"--cls_addr {folder}: no {WEIGHTS} and {SETTINGS} in it")
    from safetensors.torch import load_file

    settings = read_json(folder / SETTINGS)
    weights = load_file(folder / WEIGHTS)
    probe = LinearProbe(weights["weight"].shape[1], settings.pop("labels"), settings.pop("dropout"))
    probe.classifier.load_state_dict(weights)
    return probe.eval(), settings
