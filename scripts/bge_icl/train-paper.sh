#!/usr/bin/env bash
# Train BGE-EN-ICL from Mistral-7B-v0.1, with the settings of the paper's section 4.1 (the released command has others).
# Needs: 8 GPUs with 80 GB, days (not timed here).
# Data: cfli/bge-e5data, from the hub; --train_data FILE or FOLDER takes others.
# GPUS=1 (or 2) runs it on fewer, with fewer rows per step than the recipe has.
# Then: bash scripts/run.sh bge_icl/eval.py --model_name_or_path ckpts/bge-en-icl-paper \
#   --tasks SciFact --examples none
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GPUS=${GPUS:-8}
exec bash "$root/scripts/run.sh" bge_icl/train.py --config "$root/bge_icl/configs/paper.yaml" \
  --output_dir "$root/ckpts/bge-en-icl-paper" "$@"
