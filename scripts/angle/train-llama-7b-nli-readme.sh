#!/usr/bin/env bash
# Train AnglE on Llama-2-7b, by the later recipe in the released examples/NLI/README.md: 4-bit LoRA on triplets.
# Needs: 4 GPUs with 24 GB, hours (not timed here). Data: from the hub.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh angle/eval.py --model_name_or_path ckpts/llama-7b-nli-readme --prompt A
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-4}
exec bash "$root/scripts/run.sh" angle/train.py --config "$root/angle/configs/llama-7b-nli-readme.yaml" \
  --output_dir "$root/ckpts/llama-7b-nli-readme" "$@"
