"""The trainer that all methods share, on `transformers.Trainer`: batch losses over all processes, GradCache, resume."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

from common import model_card
from common.backbone import has_native_bf16
from common.data import Collator, RowList, RowStream, split_columns
from common.distributed import gather
from common.encoder import Encoder, Role
from common.errors import InputError
from common.gradcache import backward_in_chunks
from common.io import command_line, environment, read_json, write_json
from common.lora import parameter_counts, prepare_for_training
from common.recipe import TrainConfig
from common.resume import check_same_recipe, forget_run, last_checkpoint, recipe_of
from common.saving import load_weights, save_into
from common.task_batches import SingleSetSampler
from common.training_callbacks import SaveByTime, StopAfterSteps, StopAtTokens, TellEpoch

logger = logging.getLogger(__name__)


class Objective(Protocol):
    """A loss of a batch of embeddings; pure, so that GradCache may call it on leaves."""

    def __call__(
        self, columns: Mapping[str, Tensor], labels: Tensor | None, *, text_ids: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The loss, a scalar; see `common.angle_objective.AngleObjective`."""
        ...


def fit(
    encoder: Encoder,
    rows: RowList | RowStream,
    objective: Objective,
    config: TrainConfig,
    *,
    roles: Mapping[str, Role] | None = None,
    instructions: Mapping[str, str] | None = None,
    valid: RowList | None = None,
    gather_batches: bool = True,
    collator: Collator | None = None,
    single_set_batches: bool = False,
    stop_after_steps: int | None = None,
    trainer_class: type[EmbeddingTrainer] | None = None,
) -> Encoder:
    """Train an encoder in place; its adapter or weights end up in `config.output_dir`.

    Runs alone, under torchrun / accelerate (DDP, FSDP, DeepSpeed), and goes on from the last whole checkpoint.

    Args:
        encoder: what is trained.
        rows: of one format.
        objective: the loss of a whole batch.
        config: all other settings.
        roles: column -> template ("text", "query", "document").
        instructions: column -> instruction.
        valid: rows to measure the loss on.
        gather_batches: negatives and label pairs from all processes; False: each process by itself.
        collator: in place of one with these roles and instructions.
        single_set_batches: every batch from one data set, where rows in memory name theirs (`RowList.sets`).
        stop_after_steps: end there, on a schedule planned for the whole training.
        trainer_class: of `EmbeddingTrainer`'s kind, for losses that are no function of embeddings.

    Returns:
        the same encoder, trained.
    """
    if config.shuffle_positives and not isinstance(rows, RowList):
        raise InputError("--shuffle_positives: not with --streaming; the rows must be in memory")
    if isinstance(rows, RowList):
        if config.shuffle_positives:
            rows = shuffle_positives(rows, config.seed)
        need = config.batch_size * world_size_from_environment()
        if len(rows) < need:
            raise InputError(f"{rows.source}: {len(rows)} rows are fewer than one batch of {need}; lower --batch_size")
    torch.manual_seed(config.seed)
    prepare_for_training(
        encoder,
        apply_lora=config.apply_lora,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    collator = collator or Collator(encoder, roles, instructions, config.seed)
    arguments = training_arguments(config, encoder, steps_for_budget(config, rows, collator), valid is not None)
    trainer = (trainer_class or EmbeddingTrainer)(
        encoder, objective, config, collator, arguments, rows, valid, gather_batches, single_set_batches
    )
    trainer.add_callback(StopAfterSteps(stop_after_steps))
    trainable, total = parameter_counts(encoder.embedder)
    logger.info("training %s of %s parameters on %s", f"{trainable:,}", f"{total:,}", rows.source)
    checkpoint = last_checkpoint(config.output_dir) if config.resume else None
    if config.resume and check_same_recipe(config.output_dir, checkpoint, config):
        logger.warning("%s: this training is finished; its weights are loaded", config.output_dir)
        done = Encoder.from_pretrained(config.output_dir, device=encoder.device, dtype=encoder.backbone.dtype)
        encoder.backbone, encoder.embedder.trunk = done.backbone, done.backbone.model
        return encoder
    if not config.resume and arguments.should_save:
        forget_run(config.output_dir)
    if checkpoint:
        logger.warning("going on from %s", checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    # The trainer wraps `forward` in autocast; the vectors from here on must be those of the saved folder.
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    trainer.summary["finished"] = True
    trainer.save_model()
    encoder.embedder.eval()
    return encoder


class EmbeddingTrainer(Trainer):
    """`transformers.Trainer` for losses of a whole batch of embeddings.

    The forward pass runs through the wrapped model (DDP averages its gradients), embeddings and labels are
    gathered over processes, and the loss of the whole batch is computed in each.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        config: TrainConfig,
        collator: Collator,
        arguments: TrainingArguments,
        rows: RowList | RowStream,
        valid: RowList | None,
        gather_batches: bool,
        single_set_batches: bool = False,
    ) -> None:
        self.encoder = encoder
        self.objective: Objective = objective
        self.config = config
        self.gather_batches = gather_batches
        self.single_set_batches = single_set_batches
        self.summary: dict[str, Any] = {
            "data": rows.source,
            "command": command_line(),
            "recipe": recipe_of(config),
            "finished": False,
        }
        self.started = time.perf_counter()
        self.seconds_before = 0.0  # of the runs that this one resumes
        callbacks = [SaveByTime(config.save_minutes), StopAtTokens(config.max_tokens), TellEpoch()]
        super().__init__(
            model=encoder.embedder,
            args=arguments,
            train_dataset=rows,
            eval_dataset=valid,
            data_collator=collator,
            callbacks=callbacks,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of the batch of all processes."""
        pool_mask, lengths = inputs.get("pool_mask"), inputs["lengths"]
        vectors = model(inputs["input_ids"], inputs["attention_mask"], pool_mask, lengths=lengths)
        loss = self._loss_of(vectors, inputs)
        return (loss, {"vectors": vectors}) if return_outputs else loss

    def _loss_of(self, vectors: Tensor, inputs: dict[str, Any]) -> Tensor:
        """From the vectors (C*B, D) of this process to the loss of all."""
        together: Callable[[Tensor], Tensor] = gather if self.gather_batches else (lambda x: x)
        names = inputs["columns"]
        columns = {n: together(v) for n, v in split_columns(vectors.float(), names).items()}
        text_ids = None
        if self.config.filter_duplicate:
            text_ids = {n: together(v) for n, v in split_columns(inputs["text_ids"], names).items()}
        labels = inputs.get("labels")
        return self.objective(columns, None if labels is None else together(labels), text_ids=text_ids)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass; in chunks (GradCache) where the recipe says so."""
        if self.config.grad_cache_tokens is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        scale = 1.0 / self.current_gradient_accumulation_steps
        loss = backward_in_chunks(
            model,
            inputs["input_ids"],
            inputs["attention_mask"],
            inputs["lengths"],
            inputs.get("pool_mask"),
            loss_of=lambda vectors: self._loss_of(vectors, inputs),
            chunk_tokens=self.config.grad_cache_tokens,
            autocast=self.compute_loss_context_manager,
            backward=self.accelerator.backward,
            loss_scale=scale,
        )
        return loss * scale

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows = self.train_dataset
        sets = rows.sets if self.single_set_batches and isinstance(rows, RowList) else None
        if not isinstance(rows, RowList) or sets is None:
            return super()._get_train_sampler(train_dataset)
        batch = self._train_batch_size * self.args.world_size
        return SingleSetSampler(sets, batch, self.args.seed, source=rows.source)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """All validation rows, also those of a last, smaller batch."""
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = True

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """The validation loss of one batch."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    # -- saving: the encoder, not the bare state of a module -------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        final = folder == Path(str(self.args.output_dir))
        if state_dict is not None:  # FSDP, DeepSpeed: gathered from all processes
            state_dict = {k.removeprefix("trunk."): v for k, v in state_dict.items()}
        save_into(self.encoder, folder, merge=self.config.merge and final, state_dict=state_dict)
        self.summary |= {
            "seconds": round(self.seconds_before + time.perf_counter() - self.started, 1),
            "steps": self.state.global_step,
            "tokens": int(self.state.num_input_tokens_seen),
            "loss": [(h["step"], h["loss"]) for h in self.state.log_history if "loss" in h],
        }
        write_json(folder / "training.json", {**self.summary, "environment": environment()})
        model_card.write(folder / "README.md", self.encoder, self.config, self.summary)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_weights(self.encoder, folder)
        self.seconds_before = read_json(folder / "training.json").get("seconds", 0.0)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Ours is written with every save; transformers' own would replace it."""


def training_arguments(config: TrainConfig, encoder: Encoder, max_steps: int, validate: bool) -> TrainingArguments:
    """The recipe in the words of transformers."""
    on_cpu = encoder.device.type == "cpu"
    bf16 = config.bf16
    if bf16 is None:
        bf16 = not config.fp16 and encoder.backbone.is_decoder and has_native_bf16(encoder.device)
    if config.fp16 and on_cpu:
        raise InputError("--fp16: needs CUDA; on a CPU use --bf16 or neither")
    return TrainingArguments(
        output_dir=str(config.output_dir),
        num_train_epochs=config.epochs,
        max_steps=max_steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type=config.lr_scheduler_type,
        optim=config.optim,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=bf16,
        fp16=config.fp16,
        use_cpu=on_cpu,
        torch_compile=config.torch_compile,
        deepspeed=config.deepspeed,
        fsdp=config.fsdp or "",
        ddp_backend=config.ddp_backend or ("gloo" if on_cpu and world_size_from_environment() > 1 else None),
        dataloader_num_workers=config.workers,
        # A batch of another size would change the number of negatives, and could not be gathered.
        dataloader_drop_last=True,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        label_names=[],
        include_num_input_tokens_seen="non_padding",
        logging_steps=config.logging_steps,
        report_to=list(config.report_to),
        save_strategy=config.save_strategy,
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        eval_strategy=config.eval_strategy if validate else "no",
        eval_steps=config.eval_steps,
        push_to_hub=config.push_to_hub,
        hub_model_id=config.hub_model_id,
        hub_private_repo=config.hub_private_repo,
        # Batches carry names beside tensors, so every process makes its own instead of slicing one.
        accelerator_config={"dispatch_batches": False, "split_batches": False},
    )


def steps_for_budget(config: TrainConfig, rows: RowList | RowStream, collator: Collator, sample: int = 1000) -> int:
    """Optimiser steps for `config.max_tokens`, estimated on a sample of rows; `config.max_steps` without a budget.

    The estimate only shapes the learning-rate schedule; the count of tokens seen ends the training.
    """
    if config.max_tokens is None:
        return config.max_steps
    if not isinstance(rows, RowList):
        raise InputError("--max_tokens: not with --streaming; give --max_steps")
    picked = random.Random(config.seed).sample(range(len(rows)), min(sample, len(rows)))
    batch = collator([rows[i] for i in picked])
    per_row = batch["attention_mask"].sum().item() / len(picked)
    per_step = per_row * config.batch_size * config.gradient_accumulation_steps * world_size_from_environment()
    return max(1, math.ceil(config.max_tokens / per_step))


def shuffle_positives(rows: RowList, seed: int) -> RowList:
    """The control data: every row gets the positive (or the label) of another row, so there is nothing to learn."""
    column = next(name for name in ("positive", "output", "label") if name in rows.columns)
    values = [row[column] for row in rows.rows]
    random.Random(seed).shuffle(values)
    return RowList(
        [{**row, column: value} for row, value in zip(rows.rows, values)], f"{rows.source} (shuffled {column})"
    )


def world_size_from_environment() -> int:
    """Processes as torchrun and accelerate announce them, before torch.distributed is up."""
    return int(os.environ.get("WORLD_SIZE", "1"))
