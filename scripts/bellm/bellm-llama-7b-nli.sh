#!/usr/bin/env bash
# bellm-llama-7b-nli, README of the released code: 86.29. Bidirectional from layer 31 of 32, last token, fp16.
# Needs: a GPU with 24 GB, some minutes (not timed here); --load_kbit 4 does with 8 GB and other numbers.
# The published run let real tokens attend to padding, and read STS12-16 with trailing blanks (quirks; --compat= reads
# clean text with padding masked).
# Data: the STS sets, from the hub, or --data_dir data after: bash scripts/download_data.sh --only eval
# Then: python -m benchmarks table bellm-sts
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" bellm/eval.py --model_name_or_path NousResearch/Llama-2-7b-hf \
  --lora_name_or_path SeanLee97/bellm-llama-7b-nli --bidirectional_from 31 --dtype float16 --batch_size 16 \
  --compat bellm:unmask-padding,angle:senteval-blanks \
  --output "$root/results/bellm-sts/bellm-llama-7b-nli" "$@"
