#!/usr/bin/env bash
# Set up and pass the checks and tests. Words after the script's name go to pytest.
#   EMBED_DATA=/folder/of/real/data bash scripts/test.sh      run the tests on real data too (else skipped)
#   bash scripts/test.sh -m "not slow"                        the quick ones only
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh"
cd "$root"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# One thread per worker: two workers with two threads each on two cores are slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
exec .venv/bin/python -m pytest -n "${TEST_WORKERS:-2}" --dist worksteal "$@"
