from __future__ import annotations

from pathlib import Path

import pytest

from angle.encoder import CHECKPOINTS
from common.checkpoints import Checkpoint, lookup, read_checkpoints
from common.errors import InputError
from common.pooling import canonical_strategy
from common.prompts import Template

CONTENT = """
lab/lora-7b:
  base: maker/llm-7b
  adapter: lab/lora-7b
  template: 'Say "{text}"'
  pooling: last
  note: a remark for readers
lab/two-step:
  base: maker/llm-7b
  adapter: [lab/first, lab/second]
lab/whole:
  base: lab/whole
  pooling: cls
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints.yaml"
    path.write_text(CONTENT)
    return path


def test_a_file_is_read(file: Path) -> None:
    options = {"template": 'Say "{text}"', "pooling": "last"}
    assert read_checkpoints(file) == {
        "lab/lora-7b": Checkpoint("maker/llm-7b", ("lab/lora-7b",), options),
        "lab/two-step": Checkpoint("maker/llm-7b", ("lab/first", "lab/second")),
        "lab/whole": Checkpoint("lab/whole", (), {"pooling": "cls"}),
    }


def test_lookup(file: Path) -> None:
    lora = read_checkpoints(file)["lab/lora-7b"]
    assert lookup(file, "lab/lora-7b", None) == lora
    assert lookup(file, "lab/lora-7b", "mine").adapter == ("lab/lora-7b", "mine")  # stacked on top
    assert lookup(file, None, "lab/lora-7b") == lora
    assert lookup(file, "other/base", "lab/lora-7b") == Checkpoint("other/base", ("lab/lora-7b",), lora.options)
    assert lookup(file, None, ["mine", "lab/lora-7b"]) == Checkpoint(
        "maker/llm-7b", ("mine", "lab/lora-7b"), lora.options
    )
    assert lookup(file, "unknown", ["a", "b"]) == Checkpoint("unknown", ("a", "b"))
    assert lookup(file, "unknown", None) == Checkpoint("unknown")
    assert lookup(file, None, None) == Checkpoint("")


def test_an_entry_without_a_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lab/x:\n  pooling: cls\n")
    with pytest.raises(InputError, match="lab/x: no base model"):
        read_checkpoints(tmp_path / "c.yaml")


def test_an_empty_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert read_checkpoints(tmp_path / "c.yaml") == {}


def test_the_released_angle_models_have_settings_that_can_be_used() -> None:
    known = read_checkpoints(CHECKPOINTS)
    assert "SeanLee97/angle-llama-7b-nli-v2" in known
    assert "WhereIsAI/UAE-Large-V1" in known
    for entry in known.values():
        assert canonical_strategy(entry.options["pooling"])
        for name in ("template", "query_template"):
            if name in entry.options:
                Template(entry.options[name])
