#!/usr/bin/env bash
# S-LLaMA-1.3B, LLM2Vec (w/o SimCSE), Table 2: 61.85 on the 56 tasks of MTEB. bf16, mean pooling, instructions of the
# release.
# Needs: a GPU with 8 GB; the paper names 30 hours on 8 GPUs of 80 GB (Table 6). --benchmark llm2vec-15 is the short
# form; it resumes by task.
# Data: the tasks of MTEB, from the hub, or --data_dir data.
# Then: python -m benchmarks table llm2vec-supervised; also llm2vec-per-task, -tasks15
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" -m benchmarks mteb --method llm2vec \
  --model McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp-supervised \
  --benchmark "MTEB(eng, v1)" --dtype bfloat16 \
  --output "$root/results/llm2vec-mteb/sheared-llama-1.3b-supervised" "$@"
