#!/usr/bin/env bash
# Train roberta-large on Alpaca, in place of question-answer data: a baseline of InBedder's paper.
# Needs: a GPU with 24 GB, hours (not timed here).
# Data: Alpaca, from the hub; --train_name_or_path FILE takes others.
# Then: bash scripts/run.sh inbedder/eval.py --model_name_or_path ckpts/inbedder-alpaca-roberta-large
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" inbedder/train.py --config "$root/inbedder/configs/alpaca-roberta-large.yaml" \
  --output_dir "$root/ckpts/inbedder-alpaca-roberta-large" "$@"
