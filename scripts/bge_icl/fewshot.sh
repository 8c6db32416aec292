#!/usr/bin/env bash
# BGE-ICL from a small LLM on local data, before and after, at 0, 1, 3 and 5 examples: the table and plot of
# docs/results/bge_icl/fewshot. Trainings checkpoint and resume, results are kept: the same command goes on where it was
# stopped.
#   DATA=../shared/data bash scripts/bge_icl/fewshot.sh     an hour and a half on 2 cores
# Settings, by the environment: MODEL, DATA, OUT (rows and checkpoints), RESULTS, SETS (to train on), TESTS (to test on),
# SHOTS (numbers of examples), BATCH (rows per step), and the tokens read in training: EASY, ALL.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
data=${DATA:?fewshot.sh: set DATA to the folder of the data}
model=${MODEL:-smollm2-135m}
name=$(basename "$model")
out=${OUT:-ckpts/fewshot}/$name
results=${RESULTS:-results/fewshot}/$name
read -r -a sets <<<"${SETS:-scifact wikiqa squad nli}"
read -r -a tests <<<"${TESTS:-scifact nfcorpus wikiqa squad_nqg}"
read -r -a shots <<<"${SHOTS:-0 1 3 5}"
run() { echo "+ $*" >&2; bash "$root/scripts/run.sh" "$@"; }

run -m bge_icl.make_train_data --data_dir "$data" --sets "${sets[@]}" --output "$out/rows"

# A small LLM's EOS states lie together at first, and with examples and hard negatives the loss stays at chance. So easy
# data come first: one set, in-batch negatives alone, no examples, a high rate (docs/lab-notes.md).
shared=(--batch_size "${BATCH:-32}" --lora_r 16 --lora_alpha 32 --lora_dropout 0 --save_minutes 5 --seed 42 --report_to none)
easy=squad
[ -f "$out/rows/$easy.jsonl" ] || easy=${sets[0]}
run bge_icl/train.py --model_name_or_path "$model" --train_data "$out/rows/$easy.jsonl" --output_dir "$out/easy" \
  --max_examples 0 --query_max_len 96 --passage_max_len 64 --train_group_size 1 --max_tokens "${EASY:-60000}" \
  --learning_rate 1e-3 --warmup_steps 3 "${shared[@]}"
run bge_icl/train.py --model_name_or_path "$model" --train_data "$out/rows" --pretrained_lora_path "$out/easy" \
  --output_dir "$out/all" --query_max_len 512 --passage_max_len 128 --example_query_max_len 48 \
  --example_passage_max_len 64 --train_group_size 2 --symmetric_train_group_size 2 --grad_cache_tokens 2048 \
  --max_tokens "${ALL:-500000}" --learning_rate 5e-4 --warmup_steps 0.05 "${shared[@]}"

run -m bge_icl.study --model "$model" "$out/all" --label before after --data_dir "$data" --sets "${tests[@]}" \
  --shots "${shots[@]}" --train "$out/rows" --limit_queries 1000 --limit_passages 2000 --max_passage_tokens 128 --output "$results"
