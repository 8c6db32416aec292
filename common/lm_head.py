"""The language-model head of a backbone, beside its trunk, for objectives that predict tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from common.backbone import Backbone
from common.errors import InputError
from common.model_names import explain_missing


class LMHead(nn.Module):
    """States of the last layer (N, D) -> logits over the vocabulary (N, V), in fp32.

    Args:
        linear: the output projection, frozen; None where it is tied to the trunk's embedding table.
        config: of the model; a scale or a soft cap of its logits is applied.
    """

    def __init__(self, linear: nn.Module | None, config: Any) -> None:
        super().__init__()
        self.linear = None if linear is None else linear.requires_grad_(False)
        # Cohere multiplies, Granite divides, Gemma 2 bends them.
        self.scale = float(getattr(config, "logit_scale", None) or 1.0) / float(
            getattr(config, "logits_scaling", None) or 1.0
        )
        self.cap = getattr(config, "final_logit_softcapping", None)

    def forward(self, states: Tensor, trunk: nn.Module) -> Tensor:
        """Logits (N, V), fp32. trunk: whose embedding table a tied head uses."""
        if self.linear is None:
            table: nn.Embedding = trunk.get_input_embeddings()  # type: ignore[operator]
            logits = nn.functional.linear(states, table.weight.to(states.dtype))
        else:
            logits = self.linear(states)
        logits = logits.float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def load_lm_head(backbone: Backbone) -> LMHead:
    """The head that belongs to a backbone's trunk, in its precision and on its device.

    A head that is not tied is read from the checkpoint through the whole causal model, on the CPU.

    Raises:
        InputError: an encoder, or weights that hold no head.
    """
    source, config = backbone.source, backbone.config
    if backbone.head is not None and backbone.is_decoder:
        return LMHead(backbone.head, config)
    if not backbone.is_decoder:
        raise InputError(f"model {source.name} is no causal language model: it has no head that predicts tokens")
    if config.get_text_config().tie_word_embeddings:
        return LMHead(None, config)
    options = {**source.load_options, "dtype": backbone.dtype, "use_safetensors": True, "output_loading_info": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source.path, **options)
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    model, report = loaded
    name = head_name(backbone, model)
    if any(key.startswith(f"{name}.") for key in report["missing_keys"]):
        raise InputError(
            f"model {source.name}: its weights hold no language-model head; give the original causal model"
        )
    return LMHead(model.get_submodule(name).to(backbone.device), config)


def with_head(backbone: Backbone, trunk: nn.Module) -> nn.Module:
    """The whole language model of a trunk and the backbone's own head, as its folder on disk holds it."""
    assert backbone.head is not None
    factory: Any = AutoModelForCausalLM if backbone.is_decoder else AutoModelForMaskedLM
    with torch.device("meta"):
        whole = factory.from_config(trunk.config)
    whole.set_submodule(head_name(backbone, whole), backbone.head)
    setattr(whole, whole.base_model_prefix, trunk)
    return whole


def head_name(backbone: Backbone, model: Any) -> str:
    """The name of the head in a whole language model: a decoder's output projection, or what is beside the trunk.

    Raises:
        InputError: there is none, or a masked model has several.
    """
    if backbone.is_decoder:
        head = model.get_output_embeddings()
        names = [name for name, module in model.named_modules() if module is head]
    else:
        names = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    if len(names) != 1:
        raise InputError(f"model {backbone.source.name}: {type(model).__name__} has no single module as its head")
    return names[0]
