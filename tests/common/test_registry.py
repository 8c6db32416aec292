from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from core_texts import PROMPT, TEXTS, distance

from common import registry
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template

# What the package of somebody else's method looks like.
MODULE = """
from common.backbone import load_backbone
from common.encoder import Encoder
from common.registry import Method

METHOD = Method("their_method:load", compat="their_method:COMPAT")
COMPAT = {"theirs:odd-mean": "the mean runs over something odd"}

def load(model=None, *, adapter=None, device=None, dtype="auto", quantize=None, shift=0, **options):
    backbone = load_backbone(model, adapter=adapter, device=device, dtype=dtype, quantize=quantize, **options)
    return Encoder(backbone, method="theirs", pooling="mean", max_length=100 + shift)
"""


def install(folder: Path, entry_points: str) -> None:
    info = folder / "their_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{entry_points}")
    (folder / "their_method.py").write_text(MODULE)


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`external(entry_points)` puts a package with these entry points on the path."""

    def put(entry_points: str) -> None:
        install(tmp_path / "site", entry_points)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        importlib.invalidate_caches()
        registry._all.cache_clear()

    yield put
    registry._all.cache_clear()


def test_the_methods() -> None:
    assert {"angle", "sentence-transformer"} <= set(registry.methods())
    for name in registry.METHODS:
        method = registry.get(name)
        for path in filter(None, (method.load, method.fit)):
            assert callable(registry.resolve_attribute(path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("angel", "method 'angel' is not known; did you mean 'angle'?"),
        ("sentence-transformers", "did you mean 'sentence-transformer'?"),
        ("xyzzy", "known: "),
    ],
)
def test_an_unknown_method_names_the_nearest(name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        registry.get(name)
    assert says in str(caught.value)
    with pytest.raises(InputError, match="is not known"):
        registry.load(name, "minilm")


# ------------------------------ compat switches


@pytest.mark.parametrize("nothing", [None, "", [], ()])
def test_no_compat(nothing: object) -> None:
    assert registry.check_compat(nothing) == frozenset()


def test_compat_from_a_flag_or_a_list() -> None:
    both = frozenset({"angle:tail-truncation", "angle:max-pooling"})
    assert registry.check_compat("angle:tail-truncation, angle:max-pooling,") == both
    assert registry.check_compat(["angle:max-pooling", "angle:tail-truncation"]) == both
    assert registry.check_compat(both) == both


def test_an_unknown_compat_switch_names_the_nearest() -> None:
    with pytest.raises(InputError, match="angle:tail-trunkation: no such switch; did you mean 'angle:tail-trunc"):
        registry.check_compat("angle:max-pooling,angle:tail-trunkation")
    with pytest.raises(InputError, match="zzz: no such switch; known: angle:"):
        registry.check_compat("zzz")


def test_every_switch_says_what_it_does_and_bears_its_methods_name() -> None:
    names = registry.compat_names()
    assert "angle:tail-truncation" in names
    for name, line in names.items():
        assert name.partition(":")[0] in registry.methods()
        assert len(line) > 10


# ------------------------------ methods of others


def test_a_method_of_another_package(external: Callable[[str], None], llama_folder: Path) -> None:
    assert "theirs" not in registry.methods()
    external("theirs = their_method:METHOD\n")
    assert registry.methods()[: len(registry.METHODS)] == list(registry.METHODS)
    assert "theirs" in registry.methods()
    encoder = registry.load("theirs", str(llama_folder), dtype="float32", device="cpu", shift=7)
    assert (encoder.info.method, encoder.max_length) == ("theirs", 107)
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 32)
    assert registry.check_compat("theirs:odd-mean") == {"theirs:odd-mean"}
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        registry.get("their")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:METHOD", "No module named 'no_such_module'"),
        ("their_method:NOTHING", "NOTHING"),
        ("their_method:COMPAT", "is no common.registry.Method"),
    ],
)
def test_a_broken_method_of_another_package_breaks_itself_alone(
    external: Callable[[str], None], caplog: pytest.LogCaptureFixture, target: str, says: str
) -> None:
    external(f"broken = {target}\n")
    assert "broken" in registry.methods()
    assert registry.get("angle") is registry.METHODS["angle"]
    assert registry.check_compat("angle:max-pooling") == {"angle:max-pooling"}
    assert "broken" in caplog.text
    with pytest.raises(InputError) as caught:
        registry.get("broken")
    assert target in str(caught.value)
    assert says in str(caught.value)


def test_no_package_can_take_over_a_method_of_ours(external: Callable[[str], None]) -> None:
    external("angle = their_method:METHOD\n")
    assert registry.get("angle") is registry.METHODS["angle"]


# ------------------------------ loading


def test_options_reach_the_method(llama_folder: Path) -> None:
    options = {"dtype": "float32", "device": "cpu"}
    encoder = registry.load("angle", str(llama_folder), template="B", max_length=60, **options)
    assert encoder.info.template.startswith("You can only output one word.")
    assert (encoder.info.method, encoder.info.pooling, encoder.info.max_length) == ("angle", "last", 60)
    with pytest.raises(InputError, match="no field 'poling'"):
        registry.load("angle", str(llama_folder), poling="mean", **options)


def test_a_saved_folder_brings_its_own_settings(make_encoder: Callable[..., Encoder], tmp_path: Path) -> None:
    encoder = make_encoder("llama", template=Template(PROMPT), pooling="weighted_mean", max_length=70)
    encoder.save_pretrained(tmp_path / "saved")
    again = registry.load("angle", str(tmp_path / "saved"), dtype="float32", device="cpu")
    assert (again.info.template, again.info.pooling, again.info.max_length) == (PROMPT, "weighted_mean", 70)
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    plain = registry.load("sentence-transformer", str(tmp_path / "saved"), dtype="float32", device="cpu")
    assert plain.info.method == "sentence-transformer"
    assert distance(plain.encode(TEXTS), encoder.encode(TEXTS)) < 1e-6
