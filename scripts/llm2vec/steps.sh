#!/usr/bin/env bash
# LLM2Vec step by step, scored after each as the paper's ablation does; then LLM2Vec supervised and BeLLM, trained on
# the same triplets for the same number of tokens. Trainings checkpoint and resume, results are kept: the same command
# goes on where it was stopped.
#   bash scripts/llm2vec/steps.sh                            shipped data, minutes
#   DATA=../shared/data bash scripts/llm2vec/steps.sh        the STS tasks and real text below DATA, hours on 2 cores
# Settings, by the environment: MODEL, DATA, SUITE, LIMIT (pairs per task), OUT (checkpoints), RESULTS, and the tokens
# read in training: MNTP, SIMCSE, SUPERVISED.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
model=${MODEL:-smollm2-135m}
name=$(basename "$model")
out=${OUT:-ckpts/steps}/$name
results=${RESULTS:-results/steps}/$name
data=${DATA:-}
run() { echo "+ $*" >&2; bash "$root/scripts/run.sh" "$@"; }
if [ -n "$data" ]; then
  suite=${SUITE:-sts}
  text=(--train_name_or_path "$data/plain_text/abc.jsonl.gz")
  sentences=(--train_name_or_path "$data/plain_text/wiki1m_head.jsonl.gz")
  triplets=(--train_name_or_path "$data/nli_train/all_triplets.jsonl.gz")
  where=(--data_dir "$data")
  mntp=${MNTP:-300000} simcse=${SIMCSE:-150000} supervised=${SUPERVISED:-400000}
else
  suite=${SUITE:-sts-shipped}
  text=(--shipped) sentences=(--shipped) triplets=(--train_name_or_path shipped:triplets) where=()
  mntp=${MNTP:-20000} simcse=${SIMCSE:-10000} supervised=${SUPERVISED:-20000}
fi
limit=(${LIMIT:+--limit "$LIMIT"})
lora=(--lora_r 16 --lora_alpha 32 --lora_dropout 0 --save_minutes 5 --logging_steps 10 --report_to none)

score() {  # score NAME METHOD MODEL [flags]
  local row=$1 method=$2 what=$3
  shift 3
  run -m benchmarks run --method "$method" --model "$what" --suite "$suite" "${where[@]}" "${limit[@]}" \
    --output "$results/$row" "$@"
}

score 1-causal llm2vec "$model" --options '{"attention": "causal"}'
score 2-bidirectional llm2vec "$model"

run llm2vec/train_mntp.py --model_name_or_path "$model" "${text[@]}" --max_tokens "$mntp" --output_dir "$out/mntp" \
  --max_length 128 --batch_size 16 --mlm_probability 0.2 --learning_rate 3e-4 --warmup_steps 0.05 --eval_steps 1000 \
  --max_eval_samples 64 "${lora[@]}"
score 3-mntp llm2vec "$out/mntp"

run llm2vec/train_simcse.py --model_name_or_path "$model" --peft_model_name_or_path "$out/mntp" "${sentences[@]}" \
  --max_tokens "$simcse" --output_dir "$out/simcse" --max_length 64 --batch_size 64 --learning_rate 1e-4 \
  --warmup_steps 0.05 --loss_scale 20 --simcse_dropout 0.3 "${lora[@]}"
score 4-simcse llm2vec "$out/simcse"

contrast=(--max_tokens "$supervised" --max_length 64 --batch_size 64 --learning_rate 2e-4 --warmup_steps 0.1)
run llm2vec/train_supervised.py --model_name_or_path "$model" --peft_model_name_or_path "$out/mntp" "${triplets[@]}" \
  --output_dir "$out/supervised" --loss_scale 20 "${contrast[@]}" "${lora[@]}"
score 5-llm2vec-supervised llm2vec "$out/supervised"

run bellm/train.py --model_name_or_path "$model" "${triplets[@]}" --output_dir "$out/bellm" "${contrast[@]}" "${lora[@]}"
score 7-bellm bellm "$out/bellm" --text_edits end-marks
score 6-bellm-zero-shot bellm "$model" --text_edits end-marks

echo "== every step against the one before it"
previous=
for row in 1-causal 2-bidirectional 3-mntp 4-simcse; do
  [ -z "$previous" ] || run -m benchmarks compare "$results/$previous" "$results/$row" --baseline "$results/$previous"
  previous=$row
done
run -m benchmarks compare "$results/1-causal" "$results/4-simcse" --baseline "$results/1-causal"
echo "== all rows, against LLM2Vec supervised"
run -m benchmarks compare "$results"/[1-7]-* --baseline "$results/5-llm2vec-supervised"
