#!/usr/bin/env bash
# LLaMA-2-7B, Table 4, uni: chunking, NER and POS of CoNLL-2003 by a linear probe on the frozen model, trained and
# tested.
# Needs: a GPU with 24 GB, under an hour (not timed here). Data: conll2003 from the hub, or --data_dir data.
# Then: python -m benchmarks table llm2vec-word-level
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_word.py \
  --config "$root/llm2vec/configs/word-task/llama-2-7b-chat-uni.yaml" \
  --output_dir "$root/results/llm2vec-word-level/llama-2-7b-chat-uni" "$@"
