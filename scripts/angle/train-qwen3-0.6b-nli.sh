#!/usr/bin/env bash
# Train Qwen3-0.6B on NLI with LoRA, by the released examples/Training/qwen_fsdp.sh.
# Needs: 4 GPUs with 16 GB, hours (not timed here). Data: from the hub.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh angle/eval.py --model_name_or_path ckpts/qwen3-0.6b-nli
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-4}
exec bash "$root/scripts/run.sh" angle/train.py --config "$root/angle/configs/qwen3-0.6b-nli.yaml" \
  --output_dir "$root/ckpts/qwen3-0.6b-nli" "$@"
