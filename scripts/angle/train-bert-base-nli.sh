#!/usr/bin/env bash
# Train AnglE on BERT base, by the recipe in the released examples/NLI/README.md (the paper's own was not published).
# Needs: 8 GPUs with 24 GB, hours (not timed here). Data: from the hub.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh angle/eval.py --model_name_or_path ckpts/bert-base-nli --pooling_strategy cls_avg
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-8}
exec bash "$root/scripts/run.sh" angle/train.py --config "$root/angle/configs/bert-base-nli.yaml" \
  --output_dir "$root/ckpts/bert-base-nli" "$@"
