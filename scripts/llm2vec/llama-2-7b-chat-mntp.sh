#!/usr/bin/env bash
# LLaMA-2-7B, LLM2Vec (w/o SimCSE), Table 1: 45.70 on the 56 tasks of MTEB. bf16, mean pooling, instructions of the
# release.
# Needs: a GPU with 24 GB; the paper names 42 hours on 8 GPUs of 80 GB (Table 6). --benchmark llm2vec-15 is the short
# form; it resumes by task.
# Data: the tasks of MTEB, from the hub, or --data_dir data.
# Then: python -m benchmarks table llm2vec-unsupervised; also llm2vec-pooling
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" -m benchmarks mteb --method llm2vec \
  --model McGill-NLP/LLM2Vec-Llama-2-7b-chat-hf-mntp \
  --benchmark "MTEB(eng, v1)" --dtype bfloat16 \
  --output "$root/results/llm2vec-mteb/llama-2-7b-chat-mntp" "$@"
