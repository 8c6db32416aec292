"""`python -m benchmarks COMMAND`; without a command it lists them."""

from common.cli import dispatch

COMMANDS = {
    "list": "benchmarks.listing:main",
    "run": "benchmarks.run:main",
    "compare": "benchmarks.compare:main",
    "table": "benchmarks.tables:main",
    "tables": "benchmarks.tables:main_index",
    "speed": "benchmarks.speed:main",
    "quickstart": "benchmarks.quickstart:main",
    "matrix": "benchmarks.matrix:main",
    "layers": "benchmarks.layers:main",
    "mteb": "benchmarks.mteb_program:main",
    "transfer": "benchmarks.transfer:main",
    "leakage": "benchmarks.leakage_program:main",
    "study": "benchmarks.study:main",
    "report": "benchmarks.report:main",
}

if __name__ == "__main__":
    dispatch(COMMANDS, prog="python -m benchmarks", description="Run, compare, and hold against the papers.")
