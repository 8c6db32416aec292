"""`python -m benchmarks list`: methods, suites, models that need no hub, compat switches."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import published, suites
from common import cli, model_names, registry


@dataclass
class ListConfig:
    """List what can be run."""


def run(config: ListConfig) -> int:
    """Print the lists."""
    lines = ["methods (--method):", *(f"  {name}" for name in registry.methods())]
    lines += ["models without the hub (--model):"]
    lines += [f"  {name:14} {wheel.title}" for name, wheel in model_names.WHEELS.items()]
    lines += ["suites (--suite):", *(f"  {s.name:14} {s.about}" for s in suites.SUITES.values())]
    lines += ["published tables (table NAME):", *(f"  {name}" for name in published.names())]
    lines += ["released quirks (--compat):"]
    lines += [f"  {name:28} {about}" for name, about in sorted(registry.compat_names().items())]
    print("\n".join(lines))
    return 0


def main(argv: list[str] | None = None) -> None:
    """Methods, suites, models that need no hub, compat switches."""
    cli.run(run, ListConfig, argv=argv, prog="python -m benchmarks list", description=ListConfig.__doc__)
