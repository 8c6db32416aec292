#!/usr/bin/env bash
# bge-en-icl-e5data (few-shot), Table 1, public data only: 66.08 on the 56 tasks of MTEB. fp16, last token, 512 tokens.
# Needs: a GPU with 24 GB, days (not timed here); --tasks for some of the tasks. It resumes by task.
# Data: the tasks of MTEB, from the hub, or --data_dir data.
# EXAMPLES=FOLDER: one TASK.json per task; the published ones are research/llm_dense_retriever/examples/bge-en-icl of
# FlagOpen/FlagEmbedding (MIT), or python -m bge_icl.make_examples makes some from the training splits.
# Then: python -m benchmarks table bge-icl-mteb; also bge-icl-table1
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" bge_icl/eval.py --model_name_or_path BAAI/bge-en-icl-e5data \
  --benchmark "MTEB(eng, v1)" --examples "${EXAMPLES:-$root/data/bge-en-icl}" --dtype float16 \
  --output "$root/results/bge-icl-mteb/bge-en-icl-e5data-few-shot" "$@"
