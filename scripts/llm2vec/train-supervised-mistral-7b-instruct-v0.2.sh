#!/usr/bin/env bash
# Train mistral-7b-instruct-v0.2, contrastive training with hard negatives, from the released MNTP adapter.
# Needs: 8 GPUs with 80 GB; not timed here.
# Data: E5's public part, from the hub; --train_name_or_path FOLDER.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/supervised-mistral-7b-instruct-v0.2
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-8}
exec bash "$root/scripts/run.sh" llm2vec/train_supervised.py \
  --config "$root/llm2vec/configs/supervised/mistral-7b-instruct-v0.2.yaml" \
  --output_dir "$root/ckpts/supervised-mistral-7b-instruct-v0.2" "$@"
