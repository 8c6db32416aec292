"""Names of the released run.py (research/llm_dense_retriever, and the later FlagEmbedding) that mean something here."""

from __future__ import annotations

from typing import Any

_ALWAYS = "that is how it is always done"
_ELSEWHERE = "it was never read"
_HUB_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_DISK = "data are read from their files every time"

ALIASES = {
    "normlized": "normalize",
    "normalize_embeddings": "normalize",
    "from_peft": "pretrained_lora_path",
    "save_merged_lora_model": "merge",
    "use_lora": "apply_lora",
    "use_flash_attn": "attn_implementation",
    "knowledge_distillation": "distill",
    "dataloader_num_workers": "workers",
    "gradient_cache_tokens": "grad_cache_tokens",
    "max_train_tokens": "max_tokens",
    "max_example_num_per_dataset": "limit",
    "output": "output_dir",
    "model": "model_name_or_path",
}
DROPPED = {
    "cache_path": "set HF_HOME",
    "cache_dir": "set HF_HOME",
    "token": _HUB_LOGIN,
    "dataloader_drop_last": _ALWAYS,
    "ddp_find_unused_parameters": "all trained parameters are used",
    "gradient_checkpointing_kwargs": "gradient checkpointing is the non-reentrant one",
    "overwrite_output_dir": "a broken-off training of the same recipe is taken up; --resume 0 starts anew",
    "resume_from_checkpoint": "the last checkpoint in --output_dir is found by itself",
    "remove_unused_columns": _ALWAYS,
    "peft_model_path": _ELSEWHERE,
    "modules_to_save": _ELSEWHERE,
    "query_instruction_for_retrieval": "it was never read; the rows have their instructions (--prompt for others)",
    "passage_instruction_for_retrieval": _ELSEWHERE,
    "nli_all_prompt": _ELSEWHERE,
    "shuffle_ratio": "it was never applied",
    "fix_position_embedding": _ELSEWHERE,
    "cache_chunk_size": "it was never read; --grad_cache_tokens saves memory",
    "sentence_pooling_method": "the last token is pooled, always",
    "same_dataset_within_batch": _ALWAYS,
    "num_shards": _DISK,
    "save_max_shard_size": _DISK,
    "load_from_disk": _DISK,
    "save_to_disk": _DISK,
    "exit_after_save": _DISK,
    "load_disk_path": _DISK,
    "save_disk_path": _DISK,
    "config_name": "the model's own configuration is used",
    "tokenizer_name": "the model's own tokenizer is used",
    "use_slow_tokenizer": "fast tokenizers tell where a token begins",
    "additional_special_tokens": "they are those of the prompt; --use_special_tokens, --special_tokens",
    "pad_to_multiple_of": "texts of like length run together, unpadded where they can",
    "trust_remote_code": "code from the hub is never run",
}
REFUSED: dict[str, str] = {
    "raw_peft": "merge that adapter first: load it and save_pretrained(FOLDER, merge=True)",
}
VALUES: dict[str, Any] = {
    "use_flash_attn": {"1": "flash_attention_2", "0": "none"},
    # The released "no limit".
    "max_example_num_per_dataset": lambda text: "none" if float(text) >= 1e8 else text,
}
