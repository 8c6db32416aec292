#!/usr/bin/env bash
# Train UAE-Large-V1 further on NLI, by the released examples/Training/bert.sh.
# Needs: 4 GPUs with 24 GB, hours (not timed here). Data: from the hub.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh angle/eval.py --model_name_or_path ckpts/uae-large-nli
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-4}
exec bash "$root/scripts/run.sh" angle/train.py --config "$root/angle/configs/uae-large-nli.yaml" \
  --output_dir "$root/ckpts/uae-large-nli" "$@"
