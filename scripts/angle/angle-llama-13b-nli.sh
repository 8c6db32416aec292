#!/usr/bin/env bash
# angle-llama-13b-nli, README of the released code: 86.52. Prompts.A, last token, bf16.
# Needs: a GPU with 40 GB, some minutes (not timed here); --load_kbit 4 does with 12 GB and other numbers.
# The published run read STS12-16 with trailing blanks (a quirk; --compat= reads clean text).
# Data: the STS sets, from the hub, or --data_dir data after: bash scripts/download_data.sh --only eval
# Then: python -m benchmarks table angle-sts
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" angle/eval.py --model_name_or_path NousResearch/Llama-2-13b-hf \
  --lora_weight SeanLee97/angle-llama-13b-nli --prompt A --pooling_strategy last --is_llm 1 \
  --dtype bfloat16 --compat angle:senteval-blanks \
  --output "$root/results/angle-sts/angle-llama-13b-nli" "$@"
