"""Behind a number: the command, versions and prompt that made it, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "tokenizers", "numpy", "scipy")


def versions(environment: Mapping[str, Any]) -> str:
    """Libraries, Python, machine and commit, in a line."""
    known = environment.get("libraries") or {}
    libraries = ", ".join(f"{name} {known[name]}" for name in LIBRARIES if name in known)
    git = environment.get("git") or {}
    commit = f"; commit {git['commit'][:12]}{' with changes' if git.get('dirty') else ''}" if git else ""
    cuda = environment.get("cuda")
    cpu = environment.get("cpu") or {}
    device = ", ".join(cuda["devices"]) if cuda else f"{cpu.get('model')}, {cpu.get('threads')} threads"
    return f"Python {environment.get('python')}; {libraries or 'libraries not recorded'}; {device}{commit}"


def encoder_lines(encoder: Mapping[str, Any]) -> list[str]:
    """Model, prompt, and how a vector comes of it."""
    return [
        f"model: {encoder.get('title') or encoder.get('model')}" + _adapter(encoder),
        f"prompt: {encoder.get('template')}",
        ", ".join(
            f"{key}: {encoder[key]}" for key in ("pooling", "attention", "dtype") if encoder.get(key) is not None
        ),
    ]


def _adapter(encoder: Mapping[str, Any]) -> str:
    names = encoder.get("adapter")
    names = [names] if isinstance(names, str) else list(names or ())
    return f", adapter {' + '.join(names)}" if names else ""


def about_score(document: Mapping[str, Any], row: Mapping[str, Any], task: str) -> str:
    """Of one number of one task: its seeds, interval, items, commands, versions, prompt."""
    score = row["scores"][task]
    lines = [f"{row['name']}, {task}: {score['mean']:.4f}"]
    if len(score["by_seed"]) > 1:
        seeds = ", ".join(f"seed {s}: {v:.4f}" for s, v in zip(row["seeds"], score["by_seed"]))
        lines.append(f"{seeds} (standard deviation {score['spread']:.4f})")
    if score["interval"]:
        lines.append("95% interval over items{}: [{:.2f}, {:.2f}]".format(
            " and seeds" if len(score["by_seed"]) > 1 else "", *score["interval"]))  # fmt: skip
    lines += encoder_lines(row["made"][0]["encoder"])
    for made in row["made"]:
        record = made["tasks"][task]
        drawn = (
            f" (sample of {record['limit']}, seed {record['seed']}; ids in the result file)" if record["limit"] else ""
        )
        lines.append(f"{record['n']} items{drawn}, data {str(record['data'].get('sha256'))[:12]}, {record['created']}")
        if record["compat"]:
            lines.append(f"compat: {', '.join(record['compat'])}")
        lines += _commands(document, made, record)
    return "\n".join(dict.fromkeys(line for line in lines if line))


def about_row(document: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Of a whole row: everything that its seeds were made with, recipes too."""
    lines = [row["about"], *encoder_lines(row["made"][0]["encoder"])]
    for seed, made in zip(row["seeds"], row["made"]):
        if made["training"]:
            training = made["training"]
            recipe = ", ".join(
                f"{key}={value}" for key, value in training["recipe"].items() if value not in (None, [], "")
            )
            lines.append(f"seed {seed}: {training['tokens']:,} tokens, {training['steps']} steps of {training['data']}")
            lines.append(f"recipe: {recipe}")
            if loss := training.get("loss"):
                lines.append("loss by step: " + ", ".join(f"{step}: {value:.2f}" for step, value in _few(loss)))
        for task, record in made["tasks"].items():
            lines.append(f"{task}: {record['score']:.4f} on {record['n']} items, {record['created']}")
            lines += _commands(document, made, record)
    return "\n".join(dict.fromkeys(line for line in lines if line))


def _few(points: Sequence[Any], most: int = 12) -> Sequence[Any]:
    """At most so many points, evenly spread, the last one among them."""
    step = -(-len(points) // most)
    return points[::-1][::step][::-1]


def _commands(document: Mapping[str, Any], made: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    lines = [f"study: {document['command']}"] if document.get("command") else []
    if made["training"]:
        lines.append(f"trained by: {made['training']['command']}")
    lines.append(f"scored by: {record['command']}")
    return [*lines, f"with: {versions(document['environments'][record['environment']])}"]
