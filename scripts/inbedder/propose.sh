#!/usr/bin/env bash
# Cluster the paper's feedbacks by reason (its use case feedback-reason): CSV, map and summary in clusters/.
# Needs: a GPU with 24 GB in bf16, minutes (not timed here).
# Data: BrandonZYW/FeedbacksClustering, from the hub; --texts FILE and --instruction "..." take your own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" inbedder/propose.py \
  --model_name_or_path BrandonZYW/llama-2-7b-InBedder --dtype bfloat16 \
  --texts BrandonZYW/FeedbacksClustering --labels cluster --clusters 3 --name feedback-reason --output clusters \
  --instruction "Here is a human feedback on machine-generated text. \
Categorize the type of reason why the human like or dislike it." \
  "$@"
