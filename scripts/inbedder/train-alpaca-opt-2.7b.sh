#!/usr/bin/env bash
# Train opt-2.7b on Alpaca, in place of question-answer data: a baseline of InBedder's paper.
# Needs: 2 GPUs with 80 GB, hours (not timed here).
# Data: Alpaca, from the hub; --train_name_or_path FILE takes others.
# GPUS=1 runs it on one, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh inbedder/eval.py --model_name_or_path ckpts/inbedder-alpaca-opt-2.7b
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-2}
exec bash "$root/scripts/run.sh" inbedder/train.py --config "$root/inbedder/configs/alpaca-opt-2.7b.yaml" \
  --output_dir "$root/ckpts/inbedder-alpaca-opt-2.7b" "$@"
