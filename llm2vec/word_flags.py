"""Names of the released run_word_task.py and test_word_task.py that mean something here."""

from __future__ import annotations

_HUB_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_ALWAYS = "that is how models are always loaded"
_DATA = "sentences are tokenised at each start"
ALIASES = {
    "model_name": "model_name_or_path",
    "model_identifier_or_path": "model_name_or_path",
    "peft_addr": "adapter",
    "peft_model_name_or_path": "adapter",
    "cls_addr": "classifier_path",
    "torch_dtype": "dtype",
    "hidden_dropout": "classifier_dropout",
}
DROPPED = {
    "data_collator_type": "the released code never reads it",
    "do_eval": "validation is on unless --eval_strategy no",
    "do_train": "training is what this program does, unless --eval_only or --cls_addr is given",
    "do_predict": "the test split is always scored",
    "overwrite_output_dir": "an earlier classifier in --output_dir is always replaced",
    "remove_unused_columns": "batches hold states and tags, nothing else",
    "overwrite_cache": _DATA,
    "preprocessing_num_workers": _DATA,
    "pad_to_max_length": "padding is never computed on",
    "line_by_line": "a row is a sentence",
    "mlm_probability": "nothing is masked",
    "streaming": "sentences are read into memory",
    "per_device_eval_batch_size": "validation reads as many words at a time as run well",
    "cache_dir": "set HF_HOME",
    "token": _HUB_LOGIN,
    "use_auth_token": _HUB_LOGIN,
    "trust_remote_code": "code from the hub is never run",
    "use_fast_tokenizer": _ALWAYS,
    "low_cpu_mem_usage": _ALWAYS,
    "bf16": "the probe is trained in fp32; --dtype is that of the model",
    "fp16": "the probe is trained in fp32; --dtype is that of the model",
    "gradient_checkpointing": "the model is frozen",
}
_SCRATCH = "the model is read as it is"
REFUSED = {
    **dict.fromkeys(("model_type", "config_overrides"), _SCRATCH),
    **dict.fromkeys(("config_name", "tokenizer_name"), "the model's own is used"),
}
