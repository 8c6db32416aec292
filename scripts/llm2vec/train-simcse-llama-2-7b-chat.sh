#!/usr/bin/env bash
# Train llama-2-7b-chat, unsupervised SimCSE, from the released MNTP adapter.
# Needs: a GPU with 80 GB; 3 hours on one GPU of 80 GB for 7B in the paper.
# Data: a million sentences of Wikipedia, from the hub.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/simcse-llama-2-7b-chat
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_simcse.py \
  --config "$root/llm2vec/configs/simcse/llama-2-7b-chat.yaml" \
  --output_dir "$root/ckpts/simcse-llama-2-7b-chat" "$@"
