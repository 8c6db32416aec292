#!/usr/bin/env bash
# Train llama-2-7b-chat, MNTP: masked next tokens on WikiText-103.
# Needs: a GPU with 80 GB; 100 minutes on one GPU of 80 GB for 7B in the paper.
# Data: WikiText-103, from the hub.
# Then: bash scripts/run.sh llm2vec/eval.py --model_name_or_path ckpts/mntp-llama-2-7b-chat
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_mntp.py \
  --config "$root/llm2vec/configs/mntp/llama-2-7b-chat.yaml" \
  --output_dir "$root/ckpts/mntp-llama-2-7b-chat" "$@"
