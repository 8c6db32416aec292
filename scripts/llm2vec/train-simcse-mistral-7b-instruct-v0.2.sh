#!/usr/bin/env bash
# Train mistral-7b-instruct-v0.2, unsupervised SimCSE, from the released MNTP adapter.
# Needs: a GPU with 80 GB; 3 hours on one GPU of 80 GB for 7B in the paper.
# Data: a million sentences of Wikipedia, from the hub.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/simcse-mistral-7b-instruct-v0.2
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_simcse.py \
  --config "$root/llm2vec/configs/simcse/mistral-7b-instruct-v0.2.yaml" \
  --output_dir "$root/ckpts/simcse-mistral-7b-instruct-v0.2" "$@"
