#!/usr/bin/env bash
# Meta-LLaMA-3-8B, LLM2Vec (w/o SimCSE), Table 1: 48.84 on the 56 tasks of MTEB. bf16, mean pooling, instructions of the
# release.
# Needs: a GPU with 24 GB, days (not timed here; the paper's Table 6 has no Llama-3). --benchmark llm2vec-15 is the
# short form; it resumes by task.
# Data: the tasks of MTEB, from the hub, or --data_dir data.
# Then: python -m benchmarks table llm2vec-unsupervised
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" -m benchmarks mteb --method llm2vec \
  --model McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp \
  --benchmark "MTEB(eng, v1)" --dtype bfloat16 \
  --output "$root/results/llm2vec-mteb/llama-3-8b-instruct-mntp" "$@"
