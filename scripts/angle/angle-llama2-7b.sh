#!/usr/bin/env bash
# AnglE-LLaMA2-7B, Table 2: 85.90. Released adapter on Llama-2-7b, Prompts.A, last token, fp32 as the paper's run.
# Needs: a GPU with 40 GB, half an hour or so (not timed here); 24 GB do with --dtype bfloat16.
# The published run read STS12-16 with trailing blanks (a quirk; --compat= reads clean text).
# Data: the STS sets, from the hub, or --data_dir data after: bash scripts/download_data.sh --only eval
# Then: python -m benchmarks table angle-sts
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" angle/eval.py --model_name_or_path NousResearch/Llama-2-7b-hf \
  --lora_weight SeanLee97/angle-llama-7b-nli-20231027 --prompt A --pooling_strategy last --is_llm 1 \
  --dtype float32 --compat angle:senteval-blanks \
  --output "$root/results/angle-sts/angle-llama2-7b" "$@"
