"""docs/adding-a-method.md followed: its files are examples/prompteol, its commands run, the method is everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]
EXAMPLE = REPO / "examples"
PAGE = (REPO / "docs/adding-a-method.md").read_text(encoding="utf-8")
MOST_LINES = 60
sys.path.insert(0, str(REPO / "tests/benchmarks"))
from small_mteb import write_pairs  # noqa: E402


def files_of_the_page() -> dict[str, str]:
    """Path -> content, of every block that a line `path`: stands before."""
    return dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", PAGE, re.S | re.M))


def commands_of_the_page() -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines() if line]


def write_page(folder: Path) -> None:
    for name, content in files_of_the_page().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def test_the_page_shows_the_example_as_it_is() -> None:
    kept = {
        str(path.relative_to(EXAMPLE)): path.read_text(encoding="utf-8")
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml") and not {"build", "__pycache__"} & set(path.parts)
    }
    assert files_of_the_page() == kept
    assert len(kept) == 4


def test_it_is_short() -> None:
    lines = [line for content in files_of_the_page().values() for line in content.splitlines() if line.strip()]
    assert 20 < len(lines) <= MOST_LINES


# ------------------------------ from a folder outside, by an entry point, without pip

USER = """
import json, pathlib, sys
import pytest
from benchmarks import listing, mteb_program, run
from benchmarks.quickstart import QuickstartConfig, rows_of
from common import registry
from common.data import load_rows
from common.recipe import TrainConfig

def program(main, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert not stopped.value.code, words

model = sys.argv[1]
program(listing.main)
flags = ["--method", "prompteol", "--model", model, "--dtype", "float32"]
program(run.main, *flags, "--suite", "sts-shipped", "--limit", "20", "--output", "sts")
program(mteb_program.main, *flags, "--tasks", "STS12", "--data_dir", "data", "--output", "mteb")
rows = [row.name for row in rows_of(QuickstartConfig(methods=["prompteol"]))]
encoder = registry.load("prompteol", model, dtype="float32", device="cpu")
settings = {"batch_size": 8, "max_steps": 2, "learning_rate": 1e-2, "bf16": False}
settings |= {"save_strategy": "no", "save_minutes": None, "logging_steps": 1}
fit = registry.resolve_attribute(registry.get("prompteol").fit)
fit(encoder, load_rows("shipped:triplets"), TrainConfig(output_dir=pathlib.Path("trained"), **settings))
again = registry.load("prompteol", "trained", dtype="float32", device="cpu")
demonstrated = registry.load("prompteol", model, dtype="float32", device="cpu", demonstration=["A dog barks.", "Bark"])
with open("found.json", "w") as handle:
    json.dump({
        "rows": rows,
        "module": sys.modules["prompteol"].__file__,
        "vectors": [e.encode("A cat.").tolist() for e in (encoder, again, demonstrated)],
        "info": [e.info.to_dict() for e in (encoder, again, demonstrated)],
        "read": demonstrated.backbone.tokenizer.decode(demonstrated.tokenize(["A cat."])[0]),
        "loss": json.load(open("trained/training.json"))["loss"],
    }, handle)
"""


def put_on_the_path(folder: Path) -> None:
    """What an installer would leave there: the package, and its metadata beside it."""
    project = tomllib.loads((EXAMPLE / "prompteol/pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(EXAMPLE / "prompteol/prompteol", folder / "prompteol", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items())
        for group, named in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(points))


def test_a_method_from_a_folder_outside_the_repository(tmp_path: Path, llama_folder: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    put_on_the_path(site)
    write_pairs(work / "data")
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{REPO}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USER, str(llama_folder)],
        cwd=work, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads((work / "found.json").read_text())
    assert found["module"].startswith(str(site))
    assert re.search(r"^  prompteol$", done.stdout, re.M)  # of `list`
    for result in (work / "sts/ShippedPairs.json", work / "mteb/STS12.json"):
        encoder = json.loads(result.read_text())["encoder"]
        assert (encoder["method"], encoder["pooling"]) == ("prompteol", "last")
        assert encoder["template"] == 'This sentence : "{text}" means in one word:"'
    assert found["rows"] == ["prompteol--zero-shot", "prompteol--trained"]
    plain, again, demonstrated = found["vectors"]
    np.testing.assert_allclose(again, plain, atol=1e-5)  # what is saved is what was trained
    assert not np.allclose(demonstrated, plain, atol=1e-2)
    assert [info["method"] for info in found["info"]] == ["prompteol"] * 3
    assert found["read"] == (
        'This sentence : "A dog barks." means in one word:"Bark".This sentence : "A cat." means in one word:"'
    )
    assert found["loss"][0][1] > 0.5


def test_without_the_entry_point_it_is_not_there(tmp_path: Path) -> None:
    put_on_the_path(tmp_path)
    shutil.rmtree(next(tmp_path.glob("*.dist-info")))
    code = "from common import registry; raise SystemExit('prompteol' in registry.methods())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False).returncode == 0


# ------------------------------ the page, literally


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
def test_the_page_followed_literally(tmp_path: Path) -> None:
    """Its blocks into files, its commands as they stand; pip is told to install beside, not into this environment."""
    work, site = tmp_path / "work", tmp_path / "site"
    work.mkdir()
    write_page(work)
    write_pairs(tmp_path / "shared/data")  # for ../shared/data
    environment = {
        **os.environ,
        "PIP_TARGET": str(site), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": f"{site}{os.pathsep}{REPO}", "HF_HUB_OFFLINE": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    printed = {}
    for command in commands_of_the_page():
        done = subprocess.run(
            command, shell=True, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        printed[command] = done.stdout
    assert len(printed) == 6
    of = {key: next(text for command, text in printed.items() if key in command) for key in
          ("benchmarks list", "one-word", "demonstration", "quickstart", "mteb")}  # fmt: skip
    assert re.search(r"^  prompteol$", of["benchmarks list"], re.M)
    assert "prompteol" in of["one-word"]
    assert of["one-word"] != of["demonstration"]
    assert re.search(r"prompteol .* zero-shot ", of["quickstart"])
    assert re.search(r"prompteol .* \d,\d{3} tokens ", of["quickstart"])
    assert "STS12" in of["mteb"]
    assert len(list((work / "results/sts-shipped").iterdir())) == 2
