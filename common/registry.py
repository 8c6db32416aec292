"""The methods by name, loaded lazily, so that one method's missing dependency can't break another."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import InputError

if TYPE_CHECKING:
    from common.encoder import Encoder

logger = logging.getLogger(__name__)

ENTRY_POINTS = "llm_embedders.methods"


@dataclass(frozen=True)
class Method:
    """Where the parts of a method are, as "module:attribute".

    Attributes:
        load: `load(model=None, *, adapter, device, dtype, quantize, **options) -> Encoder`.
        fit: `fit(encoder, rows, arguments) -> Encoder`, the method's own training on rows of text; None: the
            method has no training.
        compat: a mapping of the names of its released quirks to a line that says what each does.
    """

    load: str
    fit: str | None = None
    compat: str | None = None


METHODS = {
    "angle": Method("angle.encoder:load", "angle.fit:fit", "angle.compat:COMPAT"),
    "bellm": Method("bellm.encoder:load", "bellm.fit:fit", "bellm.compat:COMPAT"),
    "llm2vec": Method("llm2vec.encoder:load", "llm2vec.fit:fit", "llm2vec.compat:COMPAT"),
    "inbedder": Method("inbedder.encoder:load", "inbedder.fit:fit", "inbedder.compat:COMPAT"),
    "bge_icl": Method("bge_icl.encoder:load", "bge_icl.fit:fit", "bge_icl.compat:COMPAT"),
    "sentence-transformer": Method("common.plain:load"),
    "simcse": Method("benchmarks.baselines.simcse:load", "benchmarks.baselines.simcse:fit"),
    "simcse-unsupervised": Method(
        "benchmarks.baselines.simcse:load_unsupervised", "benchmarks.baselines.simcse:fit_unsupervised"
    ),
}


@functools.cache
def _all() -> dict[str, Method | importlib.metadata.EntryPoint]:
    """Ours, and the entry points of others, not loaded: a broken one is reported when it is used."""
    external = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    return {**METHODS, **{name: point for name, point in external.items() if name not in METHODS}}


def methods() -> list[str]:
    """The names of all methods, those added by entry points included."""
    return list(_all())


def get(name: str) -> Method:
    """The parts of a method.

    Raises:
        InputError: no such method; names the nearest.
    """
    known = _all()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise InputError(f"method {name!r} is not known; {hint}")
    entry = known[name]
    if isinstance(entry, Method):
        return entry
    try:
        loaded = entry.load()
    except Exception as error:  # another's code: whatever is wrong with it is no fault of the other methods
        raise InputError(f"method {name!r}: its entry point {entry.value} can't be loaded: {error}") from error
    if not isinstance(loaded, Method):
        raise InputError(f"method {name!r}: its entry point {entry.value} is no common.registry.Method")
    return loaded


def load(
    method: str,
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    device: str | None = None,
    dtype: str = "auto",
    quantize: str | None = None,
    **options: Any,
) -> Encoder:
    """Load an encoder.

    Args:
        method: a name of `methods()`.
        model: local folder, short name or hub id; None: the method's embedded default. A folder that
            `Encoder.save_pretrained` wrote brings its own template, pooling and attention.
        adapter: a LoRA adapter, or several to stack.
        device: "cpu", "cuda:0", ...; None picks.
        dtype: "auto", "float32", "bfloat16", "float16".
        quantize: "8bit" or "4bit".
        options: what the method's own `load` takes (template, pooling, max_length, compat, ...).
    """
    entry = get(method)
    common: dict[str, Any] = {"adapter": adapter, "device": device, "dtype": dtype, "quantize": quantize}
    if model is not None and (Path(model) / "encoder.json").is_file():
        from common.encoder import Encoder

        return Encoder.from_pretrained(model, method=method, **common, **options)
    return resolve_attribute(entry.load)(model, **common, **options)


def compat_names() -> dict[str, str]:
    """All compat switches of all methods, with what each does."""
    names: dict[str, str] = {}
    for name in _all():
        try:
            method = get(name)
        except InputError as error:
            logger.warning("%s", error)
            continue
        if method.compat:
            names.update(resolve_attribute(method.compat))
    return names


def check_compat(names: object) -> frozenset[str]:
    """A set of compat names, from a comma separated str or a list, each of them known.

    Raises:
        InputError: an unknown name; says the nearest.
    """
    if not names:
        return frozenset()
    items = names.split(",") if isinstance(names, str) else [str(n) for n in names]  # type: ignore[attr-defined]
    wanted = frozenset(n.strip() for n in items if n.strip())
    known = compat_names()
    for name in sorted(wanted):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
            raise InputError(f"--compat {name}: no such switch; {hint}")
    return wanted


def resolve_attribute(path: str) -> Any:
    """The object behind "module:attribute"."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
