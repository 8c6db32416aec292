#!/usr/bin/env bash
# Train AnglE-LLaMA2-7B (85.90) from Llama-2-7b: 4-bit LoRA on AllNLI.
# Needs: 4 GPUs with 24 GB, hours (not timed here). Data: bash scripts/download_data.sh --only nli
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh angle/eval.py --model_name_or_path ckpts/angle-llama-7b-nli-20231027
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-4}
exec bash "$root/scripts/run.sh" angle/train.py --config "$root/angle/configs/angle-llama-7b-nli-20231027.yaml" \
  --data_dir "$root/data" \
  --output_dir "$root/ckpts/angle-llama-7b-nli-20231027" "$@"
