"""Where a transformers model keeps its layers and masks, and which attention its configuration records.

What `common.attention` and `common.attention_check` share; users import from `common.attention`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils.generic import is_flash_attention_requested

from common.errors import InputError

Mode = Literal["causal", "bidirectional"] | dict[str, int]

LAYER_LISTS = ("layers", "h", "blocks")  # what transformers' decoders call their list of layers
MASK_BUILDERS = {"create_causal_mask", "create_sliding_window_causal_mask"}
DEAF = {"stablelm", "nemotron"}  # found by check_attention on the families of transformers 5.23


class AttentionError(InputError):
    """A model does not attend as its configuration says."""


@dataclass(frozen=True)
class Parts:
    """Where things are in a model, found through PEFT and task heads.

    Attributes:
        trunk: the module that builds the masks and calls the layers.
        layers: its layers in order; empty where they are not known, as for encoders.
        configs: the trunk's configuration first, then those of the heads around it (usually the same object).
        encoder: bidirectional by nature.
        problem: why the attention of this family can't be changed, or None.
    """

    trunk: nn.Module
    layers: list[nn.Module]
    configs: list[PreTrainedConfig]
    encoder: bool
    problem: str | None

    @property
    def config(self) -> PreTrainedConfig:
        """The trunk's configuration."""
        return self.configs[0]

    @property
    def name(self) -> str:
        """How messages call the model."""
        return f"{type(self.trunk).__name__} (model_type {self.config.model_type!r})"


def find_parts(model: nn.Module) -> Parts:
    """Find trunk, layers and configuration of a model.

    Raises:
        InputError: not a transformers model, or an encoder-decoder.
    """
    configs: list[PreTrainedConfig] = []
    while callable(unwrap := getattr(model, "get_base_model", None)):  # PEFT, also stacked
        model = unwrap()
    while True:  # task head -> trunk (-> OPT's decoder)
        config = getattr(model, "config", None)
        if not isinstance(config, PreTrainedConfig):
            raise InputError(f"attention: {type(model).__name__} is not a transformers model, nor PEFT around one")
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"attention: {type(model).__name__} is an encoder-decoder; use an encoder or a decoder")
        if all(config is not known for known in configs):
            configs.insert(0, config)
        inner = getattr(model, "base_model", model)
        if inner is model:
            inner = getattr(model, "decoder", model)
        if inner is model or not isinstance(getattr(inner, "config", None), PreTrainedConfig):
            break
        model = inner
    config = configs[0]
    if _is_encoder(config):
        return Parts(model, [], configs, encoder=True, problem=None)
    lists = [child for name, child in model.named_children() if name in LAYER_LISTS]
    layers = next((list(c) for c in lists if isinstance(c, nn.ModuleList)), [])
    return Parts(model, layers, configs, encoder=False, problem=_problem(model, layers, config))


def _is_encoder(config: PreTrainedConfig) -> bool:
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):  # EmbeddingGemma
        return True
    known = config.model_type in CONFIG_MAPPING_NAMES  # else custom code, of which nothing is known
    decoder = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and (
        config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or getattr(config, "is_decoder", False)
    )
    return known and not decoder


def _problem(trunk: nn.Module, layers: Sequence[nn.Module], config: PreTrainedConfig) -> str | None:
    """Why the attention of a decoder can't be changed, or None; by signs in the code, nothing is run."""
    if config.get_text_config() is not config:
        return "is multimodal (load its text part alone)"
    # A trunk must build its masks with transformers' functions and, through this decorator, hand `is_causal`
    # to sdpa and flash-attention, which without it use a causal kernel where a batch has no padding.
    function, decorators = type(trunk).forward, set()
    while hasattr(function, "__wrapped__"):
        decorators.add(function.__code__.co_qualname.split(".")[0])
        function = function.__wrapped__
    if not MASK_BUILDERS & set(function.__code__.co_names) or "merge_with_config_defaults" not in decorators:
        return "does not go through transformers' mask utilities"
    if config.model_type in DEAF:
        return "has layers that do not pass is_causal on to their attention"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"has layers of other kinds ({', '.join(sorted(kinds))})"
    if not layers:
        return "keeps its layers in no list that is known here"
    signature = inspect.signature(layers[0].forward).parameters
    if "attention_mask" not in signature or all(p.kind is not p.VAR_KEYWORD for p in signature.values()):
        return "has layers that take no attention_mask or no further keyword arguments"
    return None


def first_layer(mode: Any, parts: Parts) -> int:
    """The first bidirectional layer of a mode, 0 to L; L, the number of layers (1 if unknown), means causal.

    Raises:
        InputError: not a mode, or no layer of this model.
    """
    count = max(len(parts.layers), 1)
    if mode == "causal":
        return count
    if mode == "bidirectional":
        return 0
    if not isinstance(mode, Mapping) or set(mode) != {"bidirectional_from"}:
        raise InputError(
            f'attention: mode {mode!r} is not "causal", "bidirectional" or {{"bidirectional_from": layer}}'
        )
    value = mode["bidirectional_from"]
    try:
        first = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        first = -1
    if not 0 <= first <= count:
        raise InputError(f"attention: bidirectional_from={value!r}: {parts.name} takes 0 to {count} ({count}: causal)")
    return first


def recorded_mode(parts: Parts) -> Mode:
    """The mode that the configuration records, simplified: from layer 0 is "bidirectional", from L "causal".

    Raises:
        InputError: the recorded layer is no layer of this model.
    """
    if parts.encoder:
        return "bidirectional"
    if getattr(parts.config, "bidirectional_from", None) is None:
        return "causal" if getattr(parts.config, "is_causal", True) else "bidirectional"
    first = first_layer({"bidirectional_from": parts.config.bidirectional_from}, parts)
    if first == 0:
        return "bidirectional"
    return "causal" if first == max(len(parts.layers), 1) else {"bidirectional_from": first}


def sliding_layers(parts: Parts) -> list[bool]:
    """Per layer, whether it has a sliding window."""
    types = getattr(parts.config, "layer_types", None)
    if types:
        return [kind == "sliding_attention" for kind in types[: len(parts.layers)]]
    names = inspect.unwrap(type(parts.trunk).forward).__code__.co_names
    window = getattr(parts.config, "sliding_window", None)
    return [window is not None and "create_sliding_window_causal_mask" in names] * len(parts.layers)


def drops_window(config: PreTrainedConfig) -> bool:
    """Whether the configuration records that bidirectional layers have no sliding window."""
    return getattr(config, "bidirectional_window", "keep") == "drop"


def check_implementation(config: PreTrainedConfig, drop: bool) -> None:
    """Refuse attention implementations under which a bidirectional layer can't be right.

    Raises:
        InputError: no mask is built for it, or it takes its window from the module and that is to be dropped.
    """
    name = config._attn_implementation
    if name not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise InputError(f"attention: transformers builds no mask for attn_implementation={name!r}; use sdpa or eager")
    if drop and is_flash_attention_requested(config):
        raise InputError(f'attention: sliding_window="drop" is not possible with {name}; use sdpa or eager')
