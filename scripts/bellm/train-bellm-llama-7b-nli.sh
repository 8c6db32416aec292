#!/usr/bin/env bash
# Train bellm-llama-7b-nli (86.29), first stage, from Llama-2-7b-chat: 4-bit LoRA, the last layer bidirectional.
# Needs: 4 GPUs with 24 GB, hours (not timed here). Data: from the hub.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh bellm/eval.py --model_name_or_path ckpts/bellm-llama-7b-nli
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-4}
exec bash "$root/scripts/run.sh" bellm/train.py --config "$root/bellm/configs/bellm-llama-7b-nli.yaml" \
  --output_dir "$root/ckpts/bellm-llama-7b-nli" "$@"
