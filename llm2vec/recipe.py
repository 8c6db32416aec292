"""The settings of LLM2Vec's contrastive steps, SimCSE and supervised: the shared ones and their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import InputError
from common.flags import flag
from common.recipe import TrainConfig

SIMCSE_OUTPUT, SUPERVISED_OUTPUT = Path("ckpts/simcse"), Path("ckpts/supervised")
# Where the released recipes stop; the learning rate is planned for 3 epochs and hardly falls until then.
RELEASED_STEPS = 1000
INSTRUCTION = "{instruction}"


@dataclass(kw_only=True)
class ContrastiveConfig(TrainConfig):
    """What both steps have in common: where they start, pooling, the loss, LoRA as in the released recipes."""

    peft_model_name_or_path: list[str] = flag(
        (), "adapters of earlier steps, merged in this order before a fresh one is trained", "model"
    )
    pretrained_lora_path: str | None = flag(None, "an adapter to go on training, in place of a fresh one", "model")
    bidirectional: bool = flag(True, "every token sees all others; no: causal, for comparison", "model")
    pooling_mode: Literal["mean", "weighted_mean", "last", "last_token", "eos_token", "bos_token"] = flag(
        "mean", "how the states of a text become its vector", "model"
    )
    chat_template: str | None = flag(
        None, "what an instruction-tuned model reads texts in, by name; default: as `llm2vec.encoder.load`", "model"
    )
    model_revision: str | None = flag(None, "of a hub model", "model")

    loss_class: Literal["HardNegativeNLLLoss"] = flag(
        "HardNegativeNLLLoss", "cross entropy over all positives and hard negatives of the batch", "loss"
    )
    loss_scale: float = flag(20.0, "multiplies cosines in the loss", "loss")

    lora_r: int = flag(16, "rank", "lora")
    lora_alpha: int = flag(0, "scaling, times 1/r; 0: twice the rank", "lora")
    lora_dropout: float = flag(0.05, "dropout in front of the adapter", "lora")

    epochs: float = flag(3.0, "passes over the data", "training")
    stop_after_n_steps: int | None = flag(
        None, "end there, on a schedule planned for all epochs; default: 1000 with the default data", "training"
    )
    warmup_steps: float = flag(0.0, "steps of linear warm-up; below 1: a share of all steps", "training")
    experiment_id: str | None = flag(None, "a folder of this name in output_dir takes the output", "saving")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.loss_scale > 0:
            raise InputError(f"--loss_scale {self.loss_scale}: must be above 0")
        if self.stop_after_n_steps is not None and self.stop_after_n_steps < 1:
            raise InputError(f"--stop_after_n_steps {self.stop_after_n_steps}: must be at least 1")
        self.lora_alpha = self.lora_alpha or 2 * self.lora_r
        own_end = self.max_steps > 0 or self.max_tokens is not None
        if self.stop_after_n_steps is None and self._default_data and not own_end:
            self.stop_after_n_steps = RELEASED_STEPS
        model = self.model_name_or_path or self.pretrained_lora_path or "".join(self.peft_model_name_or_path[-1:])
        if self.output_dir in (SIMCSE_OUTPUT, SUPERVISED_OUTPUT) and model:
            self.output_dir /= Path(model).name
        if self.experiment_id and self.output_dir.name != self.experiment_id:
            self.output_dir /= self.experiment_id

    @property
    def _default_data(self) -> bool:
        return not self.train_name_or_path


@dataclass(kw_only=True)
class SimcseConfig(ContrastiveConfig):
    """Unsupervised SimCSE (LLM2Vec step 3): defaults of the released train_configs/simcse."""

    output_dir: Path = flag(SIMCSE_OUTPUT, "where checkpoints and adapter go; default: with the model's name", "saving")
    train_name_or_path: str | None = flag(
        None, "text file (a text per line), rows with a column text, or hub data set; default: Wiki1M", "data"
    )
    shipped: bool = flag(False, "train on the sentences that ship, for a trial", "data")
    max_length: int = flag(128, "tokens per sequence", "model")
    simcse_dropout: float = flag(0.3, "of attention probabilities; makes the two views of a text differ", "model")
    simcse_chat_template: bool = flag(
        True, "train in the chat template that inference uses; no: on bare texts, as released", "model"
    )
    batch_size: int = flag(128, "texts per process and forward", "training")
    learning_rate: float = flag(3e-5, "peak learning rate", "training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.simcse_dropout < 1:
            raise InputError(f"--simcse_dropout {self.simcse_dropout}: must be at least 0 and below 1")
        if not self.simcse_dropout and not self.lora_dropout:
            raise InputError("--simcse_dropout 0 --lora_dropout 0: without dropout both views of a text are equal")
        if self.shipped and self.train_name_or_path:
            raise InputError(f"--shipped and --train_name_or_path {self.train_name_or_path}: give one of them")
        if self.streaming:
            raise InputError("--streaming: SimCSE reads its texts into memory; leave it out")

    @property
    def _default_data(self) -> bool:
        return not self.train_name_or_path and not self.shipped


@dataclass(kw_only=True)
class SupervisedConfig(ContrastiveConfig):
    """Supervised contrastive training: defaults of the released train_configs/supervised."""

    output_dir: Path = flag(
        SUPERVISED_OUTPUT, "where checkpoints and adapter go; default: with the model's name", "saving"
    )
    train_name_or_path: str | None = flag(
        None, "a file or hub data set of pairs or triplets, or a folder with one file per data set; default: E5", "data"
    )
    sample_shares: bool = flag(False, "the folder holds whole E5 sets: use the shares that the recipe takes", "data")
    label_threshold: float | None = flag(
        None, "of labelled pairs: from which label on they are positives; default: 0.8 of the highest", "data"
    )
    train_instruction_format: str | None = flag(
        None, "how rows' instructions are written; default: E5's '{instruction}:', others as they are", "data"
    )
    train_doc_instruction: Literal["released", "paper"] = flag(
        "released", "paper: E5's symmetric sets have their instruction on both sides; released: queries alone", "data"
    )
    loss_scale: float = flag(50.0, "multiplies cosines in the loss", "loss")
    batch_size: int = flag(64, "rows per process and forward", "training")
    learning_rate: float = flag(2e-4, "peak learning rate", "training")
    warmup_steps: float = flag(300.0, "steps of linear warm-up; below 1: a share of all steps", "training")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.train_instruction_format
        if given is not None and given.count(INSTRUCTION) != 1:
            raise InputError(f"--train_instruction_format {given!r}: needs {INSTRUCTION} exactly once")
