#!/usr/bin/env bash
# Train sheared-llama-1.3b, unsupervised SimCSE, from the released MNTP adapter.
# Needs: a GPU with 24 GB; 3 hours on one GPU of 80 GB for 7B in the paper.
# Data: a million sentences of Wikipedia, from the hub.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/simcse-sheared-llama-1.3b
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_simcse.py \
  --config "$root/llm2vec/configs/simcse/sheared-llama-1.3b.yaml" \
  --output_dir "$root/ckpts/simcse-sheared-llama-1.3b" "$@"
