"""Make a backbone trainable: a fresh LoRA adapter, a loaded one, or all weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from common.backbone import Backbone, pick_device
from common.encoder import Encoder
from common.errors import InputError


def add_lora(
    backbone: Backbone,
    *,
    r: int = 32,
    alpha: int = 32,
    dropout: float = 0.1,
    target_modules: Sequence[str] | None = None,
    token_rows: Sequence[int] | None = None,
) -> None:
    """Put a fresh LoRA adapter on the trunk, in place.

    Args:
        backbone: its model is replaced by a PEFT model. One that has an adapter is merged first.
        r: rank; alpha: scaling; dropout: before the adapter.
        target_modules: names of modules; None: all linear layers, as QLoRA.
        token_rows: rows of the embedding table (those of added tokens) that the adapter holds besides, and trains.
    """
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    model = backbone.model
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
        backbone.merged = backbone.adapters
    if backbone.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(target_modules) if target_modules else "all-linear",
        bias="none",
        trainable_token_indices=list(token_rows) if token_rows else None,
    )
    try:
        backbone.model = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"--lora_target_modules: {str(error).splitlines()[0]}") from error


def trains_adapter(encoder: Encoder, apply_lora: bool | None) -> bool:
    """Whether `prepare_for_training` trains an adapter, and not all weights."""
    return encoder.backbone.is_decoder if apply_lora is None else apply_lora


def prepare_for_training(
    encoder: Encoder,
    *,
    apply_lora: bool | None,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: Sequence[str] | None,
    gradient_checkpointing: bool = False,
) -> None:
    """Decide what is trained, in place: LoRA (LLMs' default), an adapter already loaded, or all weights.

    Raises:
        InputError: all weights of a quantised model were asked for.
    """
    backbone = encoder.backbone
    lora = trains_adapter(encoder, apply_lora)
    trainable_adapter = any("lora_" in n and p.requires_grad for n, p in backbone.model.named_parameters())
    if lora and not trainable_adapter:
        add_lora(backbone, r=r, alpha=alpha, dropout=dropout, target_modules=target_modules)
    elif not lora:
        if backbone.quantize:
            raise InputError("--apply_lora 0: the weights of a quantised model can't be trained; use LoRA")
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(True)
    if backbone.quantize == "4bit":
        keep_4bit_differentiable(backbone.model)
    encoder.embedder.trunk = backbone.model
    if gradient_checkpointing:
        enable_gradient_checkpointing(backbone.model)


def keep_4bit_differentiable(model: nn.Module) -> None:
    """Undo, and keep off, the repacking of 4-bit weights that bitsandbytes does at a first inference on a CPU.

    The repacked product has no gradient towards its input, and torch only warns: every layer below the last
    would train on wrong gradients.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.state_dict()  # unpacks in place
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def enable_gradient_checkpointing(model: nn.Module) -> None:
    """Recompute activations in the backward pass; inputs get gradients, so frozen trunks pass them on."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    model.enable_input_require_grads()  # type: ignore[operator]


def training_attention(device: str | None) -> str | None:
    """The attention implementation to train with; None: the library's choice.

    On CPUs the backward pass of sdpa took 1.65 times as long as that of plain matrix products on sentences
    (docs/lab-notes.md).
    """
    return "eager" if pick_device(device).type == "cpu" else None


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, sum(p.numel() for p in model.parameters())
