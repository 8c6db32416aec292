#!/usr/bin/env bash
# Train opt-6.7b as InBedder was: the answer to a question about a text, stop words left out.
# Needs: 2 GPUs with 80 GB, hours (not timed here).
# All weights are trained, about 110 GB with their optimiser: give --fsdp or --deepspeed FILE to part them.
# Data: the published question-answer rows, from the hub; --train_name_or_path FILE takes others.
# GPUS=1 runs it on one, with fewer rows per step than the recipe has, and --apply_lora 1, so that it fits.
# Then: bash scripts/run.sh inbedder/eval.py --model_name_or_path ckpts/inbedder-qa-opt-6.7b
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-2}
exec bash "$root/scripts/run.sh" inbedder/train.py --config "$root/inbedder/configs/qa-opt-6.7b.yaml" \
  --output_dir "$root/ckpts/inbedder-qa-opt-6.7b" "$@"
