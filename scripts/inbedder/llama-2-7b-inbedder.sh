#!/usr/bin/env bash
# llama-2-7b-InBedder, Tables 1 and 2: 58.80 awareness, 59.51 generic. First token of the answer, layer 32, bf16.
# Needs: a GPU with 24 GB, about an hour (not timed here); --robustness asks the right, implicit and wrong instructions,
# too.
# Other layers and modes: --output_value avg_ppt_layer_16 --output FOLDER.
# Clusterings are means over --seeds; the published ones had one start of mini-batch k-means (--compat
# inbedder:minibatch-kmeans).
# Data: the sets of the paper, from the hub, or --data_dir data.
# Then: python -m benchmarks table inbedder-awareness; also inbedder-generic, -robustness, -all-layers
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" inbedder/eval.py \
  --model_name_or_path BrandonZYW/llama-2-7b-InBedder --dtype bfloat16 \
  --output "$root/results/inbedder/llama-2-7b-inbedder" "$@"
