#!/usr/bin/env bash
# angle-bert-base-uncased-nli-en-v1, the author's new evaluation with angle_emb 0.1.1: 82.43.
# Needs: no GPU, 2 GB, some minutes on a CPU (not timed here).
# The published run averaged padding too (a quirk; --compat= averages the text alone), so its vectors depend on
# the batch: 16 texts, as there.
# Data: the STS sets, from the hub, or --data_dir data after: bash scripts/download_data.sh --only eval
# Then: python -m benchmarks table angle-sts
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" angle/eval.py --model_name_or_path SeanLee97/angle-bert-base-uncased-nli-en-v1 \
  --pooling_strategy cls_avg --is_llm 0 --dtype float32 --batch_size 16 --compat angle:pool-pad-mean \
  --output "$root/results/angle-sts/angle-bert-base-uncased-nli-en-v1" "$@"
