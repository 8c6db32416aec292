#!/usr/bin/env bash
# opt-2.7b-InBedder, Tables 1 and 2: 51.47 awareness, 56.57 generic. First token of the answer, layer 32, fp32.
# Needs: a GPU with 16 GB, about an hour (not timed here); --robustness asks the right, implicit and wrong instructions,
# too.
# Other layers and modes: --output_value avg_ppt_layer_16 --output FOLDER.
# Clusterings are means over --seeds; the published ones had one start of mini-batch k-means (--compat
# inbedder:minibatch-kmeans).
# Data: the sets of the paper, from the hub, or --data_dir data.
# Then: python -m benchmarks table inbedder-awareness; also inbedder-generic, -robustness, -all-layers
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" inbedder/eval.py \
  --model_name_or_path BrandonZYW/opt-2.7b-InBedder --dtype float32 \
  --output "$root/results/inbedder/opt-2.7b-inbedder" "$@"
