#!/usr/bin/env bash
# Train sheared-llama-1.3b, contrastive training with hard negatives, from the released MNTP adapter.
# Needs: 8 GPUs with 24 GB; not timed here.
# Data: E5's public part, from the hub; --train_name_or_path FOLDER.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/supervised-sheared-llama-1.3b
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-8}
exec bash "$root/scripts/run.sh" llm2vec/train_supervised.py \
  --config "$root/llm2vec/configs/supervised/sheared-llama-1.3b.yaml" \
  --output_dir "$root/ckpts/supervised-sheared-llama-1.3b" "$@"
