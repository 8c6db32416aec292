from __future__ import annotations

from pathlib import Path

import yaml

from angle.encoder import load
from angle.recipe import AngleConfig
from common import cli, model_card

SUMMARY = {
    "data": "shipped:triplets",
    "command": "python angle/train.py --output_dir out --angle_w 0.5",
    "steps": 40,
    "tokens": 1234,
    "loss": [(step, 2.0 / step) for step in range(1, 41)],
}


def written(tmp_path: Path, model: Path) -> tuple[str, AngleConfig]:
    config = AngleConfig(output_dir=Path("out"), model_name_or_path="base", angle_w=0.5, dry_run=True)
    encoder = load(str(model), dtype="float32", compat="angle:tail-truncation")
    model_card.write(tmp_path / "README.md", encoder, config, SUMMARY)
    return (tmp_path / "README.md").read_text(encoding="utf-8"), config


def test_the_head_is_yaml_that_the_hub_reads(tmp_path: Path, tiny_llama: Path) -> None:
    text, _ = written(tmp_path, tiny_llama)
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "sentence-transformers"
    assert head["pipeline_tag"] == "sentence-similarity"
    assert head["tags"] == ["sentence-transformers", "feature-extraction", "angle"]
    assert "base_model" not in head  # a local folder is no model of the hub


def test_the_recipe_in_the_card_is_the_recipe(tmp_path: Path, tiny_llama: Path) -> None:
    text, config = written(tmp_path, tiny_llama)
    recipe = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "recipe.yaml").write_text(recipe)
    back = cli.parse(AngleConfig, ["--config", str(tmp_path / "recipe.yaml")])
    assert cli.describe(back) == cli.describe(config)
    assert back.angle_w == 0.5


def test_it_says_what_was_trained_and_how(tmp_path: Path, tiny_llama: Path) -> None:
    text, _ = written(tmp_path, tiny_llama)
    for part in (
        "shipped:triplets",
        "40, 1234",
        "python angle/train.py --output_dir out --angle_w 0.5",
        'Summarize sentence "{text}" in one word:"',
        "| pooling | last |",
        "| attention | causal |",
        "angle:tail-truncation",
        "1: 2.0000",
        'load("angle", ',
    ):
        assert part in text, part
    curve = next(line for line in text.splitlines() if line.startswith("step: loss:"))
    assert curve.count(":") <= 2 + 12  # thinned


def test_a_run_without_logged_losses(tmp_path: Path, tiny_llama: Path) -> None:
    encoder = load(str(tiny_llama), dtype="float32")
    summary = {**SUMMARY, "loss": []}
    model_card.write(tmp_path / "README.md", encoder, AngleConfig(output_dir=Path("out")), summary)
    assert "not logged" in (tmp_path / "README.md").read_text()
