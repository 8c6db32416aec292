#!/usr/bin/env bash
# Train opt-1.3b as InBedder was: the answer to a question about a text, stop words left out.
# Needs: a GPU with 40 GB, hours (not timed here).
# Data: the published question-answer rows, from the hub; --train_name_or_path FILE takes others.
# Then: bash scripts/run.sh inbedder/eval.py --model_name_or_path ckpts/inbedder-qa-opt-1.3b
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" inbedder/train.py --config "$root/inbedder/configs/qa-opt-1.3b.yaml" \
  --output_dir "$root/ckpts/inbedder-qa-opt-1.3b" "$@"
