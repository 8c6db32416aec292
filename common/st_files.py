"""The files that make a saved folder a plain sentence-transformers model, and when there can be such files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.attention import get_attention
from common.attention_parts import drops_window
from common.io import write_json, write_text
from common.prompts import Template

if TYPE_CHECKING:
    from common.encoder import Encoder, Role

ROLES: tuple[Role, ...] = ("text", "query", "document")
# Our pooling strategies in the words of sentence-transformers' Pooling module.
ST_POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max", "weighted_mean": "weightedmean"}
# The weight of BOS where it is not part of the mean: nothing beside other tokens, everything for an empty text.
UNPOOLED = 1e-9


def inexpressible(encoder: Encoder, *, adapter_only: bool) -> str | None:
    """Why plain sentence-transformers can't give this encoder's vectors; None when it can."""
    attention = get_attention(encoder.backbone.model)
    if encoder.pooling not in ST_POOLING:
        return f"pooling {encoder.pooling!r}"
    if isinstance(attention, dict):
        return f"attention {attention}"
    window = getattr(encoder.backbone.config, "sliding_window", None) or encoder.max_length
    if drops_window(encoder.backbone.config) and window < encoder.max_length:
        return f"a sliding window of {window} that is not used, and a max_length of {encoder.max_length}"
    if adapter_only and attention == "bidirectional" and encoder.backbone.is_decoder:
        return "bidirectional attention on top of a causal base; save with merge=True"
    if adapter_only and encoder.backbone.merged:
        return f"an adapter on top of others ({', '.join(encoder.backbone.merged)}); save with merge=True"
    if adapter_only and _brings_tokens(encoder):
        return "an adapter that brings tokens of its own; save with merge=True"
    text = constant(encoder.templates["text"])
    if text is None:
        return "a template that needs an instruction"
    patterns = _role_patterns(encoder)
    for role, pattern in patterns.items():
        if text != "{text}" or not pattern.endswith("{text}"):
            return f"a {role} template with a tail, or beside a template of texts"
    if encoder.compat:
        return f"compat {sorted(encoder.compat)}"
    if encoder.max_text_length is not None and any(p != "{text}" for p in (text, *patterns.values())):
        return f"at most {encoder.max_text_length} tokens of text in a template"
    return _unpoolable(encoder, text, list(patterns.values()))


def _brings_tokens(encoder: Encoder) -> bool:
    configs = getattr(encoder.backbone.model, "peft_config", {}).values()
    return any(getattr(config, "trainable_token_indices", None) for config in configs)


def _unpoolable(encoder: Encoder, text: str, others: list[str]) -> str | None:
    """Why plain sentence-transformers can't leave out of the pooling what this encoder leaves out.

    It can pool all tokens, weigh the mean by token (BOS), and skip the tokens of a prompt where these are the
    same with and without a text behind them.
    """
    pooled, pooling = encoder.pooled, encoder.pooling
    if pooled == "all" or pooling == "cls":
        return None
    head, tail = added_tokens(encoder.backbone.tokenizer)
    way_out = f"pooled {pooled!r}; pooled='all' can be expressed"
    if pooled == "text" and (tail or not text.endswith("{text}")):
        return f"tokens behind the text, with {way_out}"
    if pooling == "last":
        return None
    if text != "{text}":
        return f"a template around the text, with {way_out}"
    prompts = [pattern.removesuffix("{text}") for pattern in others if pattern != "{text}"]
    if head and (pooling != "mean" or prompts):
        return f"{encoder.backbone.tokenizer.decode(head)} before the text, pooling {pooling!r} with {way_out}"
    if prompts and pooling == "weighted_mean":
        return f"a prompt and pooling {pooling!r} with {way_out}"
    for prompt in prompts:
        if not _ends_with_a_token(encoder.backbone.tokenizer, prompt):
            return f"the prompt {prompt!r}, whose last token takes in the start of the text, with {way_out}"
    return None


def _ends_with_a_token(tokenizer: Any, prompt: str) -> bool:
    """Whether a text behind the prompt leaves the prompt's tokens as they are, tried with a few starts of texts."""
    alone = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    starts = ("a", "The", "I", "1", "(", '"', "é", "価")
    longer = [tokenizer(prompt + start, add_special_tokens=False)["input_ids"] for start in starts]
    return bool(alone) and alone[-1] not in tokenizer.all_special_ids and all(x[: len(alone)] == alone for x in longer)


def constant(template: Template) -> str | None:
    """The pattern that fills in a text alone; None where an instruction must be given."""
    pattern = template.plain if template.takes_instruction else template.pattern
    return None if pattern is None else pattern.replace("{examples}", "")


def _role_patterns(encoder: Encoder) -> dict[Role, str]:
    """The patterns of queries and documents, where they have one that needs no instruction."""
    patterns = {role: constant(encoder.templates[role]) for role in ROLES[1:] if role in encoder.templates}
    return {role: pattern for role, pattern in patterns.items() if pattern is not None}


def added_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and behind every text."""
    probe = tokenizer("x")["input_ids"]
    bare = tokenizer("x", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(probe)) if probe[i : i + len(bare)] == bare)
    return probe[:start], probe[start + len(bare) :]


def chat_template(encoder: Encoder) -> str | None:
    """The template of texts as a chat template; None where a text stands alone.

    sentence-transformers 6 applies a chat template to plain texts without saying so; a model's own one would
    change the vectors, and ours is the one way to give it a prompt with a tail.
    """
    pattern = constant(encoder.templates["text"])
    if pattern in (None, "{text}"):
        return None
    before, after = str(pattern).split("{text}")
    # apply_chat_template adds no special tokens, so those that the tokenizer puts around a text go in as text.
    tokenizer: Any = encoder.backbone.tokenizer
    head, tail = (tokenizer.decode(ids, skip_special_tokens=False) for ids in added_tokens(tokenizer))
    return (
        "{%- for message in messages -%}{{- "
        + json.dumps(head + before, ensure_ascii=False)
        + " + (message['content'] if message['content'] is string else message['content'][0]['text']) + "
        + json.dumps(after + tail, ensure_ascii=False)
        + " -}}{%- endfor -%}"
    )


def save_tokenizer(encoder: Encoder, folder: Path) -> bool:
    """The tokenizer, with the method's template as its chat template, or with none; whether it has one."""
    tokenizer: Any = copy.deepcopy(encoder.backbone.tokenizer)
    tokenizer.chat_template = chat_template(encoder)
    tokenizer.model_max_length = encoder.max_length
    tokenizer.save_pretrained(folder)
    return tokenizer.chat_template is not None


def save_sentence_transformers_files(encoder: Encoder, folder: Path, *, has_chat_template: bool) -> None:
    """modules.json and what it names; only for an encoder that is not `inexpressible`."""
    head, tail = added_tokens(encoder.backbone.tokenizer)
    modules = [("", "Transformer")]
    if encoder.pooled != "all" and encoder.pooling == "mean" and head:
        # Where the mean is over the text, BOS weighs nothing.
        vocabulary = [str(i) for i in range(encoder.backbone.model.get_input_embeddings().num_embeddings)]  # type: ignore[operator]
        weights = {"vocab": vocabulary, "word_weights": {str(i): UNPOOLED for i in head}, "unknown_word_weight": 1.0}
        modules.append((f"{len(modules)}_WordWeights", "WordWeights"))
        (folder / modules[-1][0]).mkdir()
        write_json(folder / modules[-1][0] / "config.json", weights)
    modules.append((f"{len(modules)}_Pooling", "Pooling"))
    (folder / modules[-1][0]).mkdir()
    pooling = {
        "embedding_dimension": encoder.dim,
        "pooling_mode": ST_POOLING[encoder.pooling],
        "include_prompt": encoder.pooled == "all" or encoder.pooling == "cls",
    }
    write_json(folder / modules[-1][0] / "config.json", pooling)
    if encoder.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir()
        write_text(folder / modules[-1][0] / ".keep", "")
    package = "sentence_transformers.models"
    listed = [{"idx": i, "name": str(i), "path": p, "type": f"{package}.{t}"} for i, (p, t) in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    longest = encoder.max_length
    if encoder.max_text_length is not None:
        longest = min(longest, encoder.max_text_length + len(head) + len(tail))
    transformer: dict[str, Any] = {"max_seq_length": longest, "do_lower_case": False}
    if has_chat_template:
        # A folder that does not say so is read by sentence-transformers 6 as one of an older version, whose
        # texts go past the chat template.
        states = {"method": "forward", "method_output_name": "last_hidden_state"}
        transformer["modality_config"] = {"text": states, "message": {**states, "format": "flat"}}
        transformer["module_output_name"] = "token_embeddings"
    write_json(folder / "sentence_bert_config.json", transformer)
    prompts = {role: pattern.removesuffix("{text}") for role, pattern in _role_patterns(encoder).items()}
    config = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", config)
