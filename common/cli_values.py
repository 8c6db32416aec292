"""Values of flags and configuration files: from text or YAML to what a dataclass field is annotated with.

YAML is read by the rules of YAML 1.2, because those of 1.1 (PyYAML's own) make
`no` a boolean, `1e-5` a string, `010` an octal number and `2023-10-27` a date, all of which stand in recipes.
"""

from __future__ import annotations

import enum
import json
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from common.errors import InputError

BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_NONE = type(None)


class Unfit(ValueError):
    """A value that its field can't take; the message says why, the caller says where."""


# ------------------------------------------------------------------------------------------- annotations


def members(annotation: Any) -> tuple[Any, ...]:
    """The types a field may have: the parts of a union, else the annotation alone."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def is_list(annotation: Any) -> bool:
    """Whether the field takes several values: a list or tuple, or a union with one."""
    return any((typing.get_origin(part) or part) in (list, tuple) for part in members(annotation))


def is_switch(annotation: Any) -> bool:
    """Whether the flag may stand without a value: a boolean, or a union with one."""
    return bool in members(annotation)


def is_plain_switch(annotation: Any) -> bool:
    """Whether the field is nothing but a boolean (or None)."""
    return is_switch(annotation) and set(members(annotation)) <= {bool, _NONE}


def type_name(annotation: Any) -> str:
    """The annotation as `--help` shows it: `INT`, `{cls,mean}`, `PATH ...`."""
    if typing.get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, typing.get_args(annotation))) + "}"
    names = {bool: "1|0", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", dict: "JSON", Any: "VALUE"}
    parts = []
    for part in members(annotation):
        origin = typing.get_origin(part) or part
        if origin in (list, tuple):
            parts.append(f"{type_name((typing.get_args(part) or (str,))[0])} ...")
        elif isinstance(part, type) and issubclass(part, enum.Enum):
            parts.append("{" + ",".join(str(choice.value) for choice in part) + "}")
        elif part is not _NONE:
            parts.append(type_name(part) if origin is Literal else names.get(origin, "VALUE"))
    return "|".join(parts)


# ------------------------------------------------------------------------------------------------ values


def from_words(annotation: Any, words: Sequence[str], *, split: bool = True) -> Any:
    """The value of a flag from the words that follow it.

    A list takes several words, words with commas (`split`), or one JSON list (for items that hold commas);
    one empty word is the empty list. `none` and `null` are None where the field allows it.
    """
    if not is_list(annotation):
        return convert(annotation, words[0], text=True)
    if len(words) == 1 and _NONE in members(annotation) and words[0].lower() in ("none", "null"):
        return None
    others = tuple(part for part in members(annotation) if part is not _NONE and not is_list(part))
    if len(words) == 1 and others:
        return _first_fit(others, words[0], text=True)
    items: list[Any] = list(words)
    if len(words) == 1 and words[0].startswith("["):
        try:
            return convert(annotation, json.loads(words[0]), text=False)
        except json.JSONDecodeError:
            pass  # a word such as [MASK]
    if split:
        items = [item.strip() for word in words for item in word.split(",") if item.strip()]
    return convert(annotation, items, text=True)


def convert(annotation: Any, value: Any, *, text: bool) -> Any:
    """`value` as the annotation wants it; Unfit when it can't be that.

    With `text` the value was typed on the command line: `12` may be a number or a word, whichever the field
    is. Without, it comes from a file, where a number is a number; text that spells a number, a boolean or a
    list is taken too, but a number is no text (an unquoted `0123` has lost its zero by then).
    """
    parts = members(annotation)
    if len(parts) > 1:
        return _first_fit(parts, value, text=text)
    origin = typing.get_origin(annotation) or annotation
    if annotation is Any:
        return _any(value) if text else value
    if origin is Literal:
        return _choice(typing.get_args(annotation), value)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(_choice(tuple(choice.value for choice in annotation), value))
    if origin in (list, tuple):
        return _sequence(annotation, value, text=text)
    if origin is dict:
        return _mapping(annotation, value)
    if annotation in _SCALARS:
        return _SCALARS[annotation](value)
    raise TypeError(f"a field annotated {annotation!r} can't be a flag")


def _first_fit(parts: Sequence[Any], value: Any, *, text: bool) -> Any:
    """The value as the first member of a union that takes it: its own type first, text last."""
    if _NONE in parts and (value is None or (text and str(value).lower() in ("none", "null"))):
        return None
    parts = [part for part in parts if part is not _NONE]
    if not text and type(value) in parts:
        return convert(type(value), value, text=False)
    reasons = []
    for part in sorted(parts, key=lambda part: (part in (str, Path), part is str)):
        try:
            return convert(part, value, text=text)
        except Unfit as error:
            reasons.append(str(error))
    raise Unfit(" and ".join(dict.fromkeys(reasons)))


def _choice(choices: Sequence[Any], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    if not isinstance(value, bool):
        for choice in choices:  # from text; and 4 for "4" or 1.0 for 1 in a file
            if str(choice) == str(value) or (_number(choice) and choice == value):
                return choice
    raise Unfit(f"{_shown(value)} is not one of {', '.join(map(str, choices))}")


def _sequence(annotation: Any, value: Any, *, text: bool) -> Any:
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if isinstance(value, str):  # "q_proj,v_proj" in a file
        value, text = [item.strip() for item in value.split(",") if item.strip()], True
    if not isinstance(value, list | tuple):
        raise Unfit(f"{_shown(value)} is not a list")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise Unfit(f"{len(value)} values where {len(arguments)} are due")
        return tuple(convert(part, item, text=text) for part, item in zip(arguments, value))
    part = arguments[0] if arguments else str
    return origin(convert(part, item, text=text) for item in value)


def _mapping(annotation: Any, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Unfit(f"{_shown(value)} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise Unfit(f"{_shown(value)} is not a JSON object")
    part = (typing.get_args(annotation) or (str, Any))[1]
    return {str(key): convert(part, item, text=False) for key, item in value.items()}


def _any(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return BOOLEANS[str(value).lower()]
    except KeyError:
        raise Unfit(f"{_shown(value)} is not a boolean (1 or 0, true or false, yes or no)") from None


def _integer(value: Any) -> int:
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    try:  # 1e4 and 10000.0 are whole numbers too
        number = float("" if isinstance(value, bool) else value)
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise Unfit(f"{_shown(value)} is not a whole number")


def _real(value: Any) -> float:
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        raise Unfit(f"{_shown(value)} is not a number") from None
    if not math.isfinite(number):
        raise Unfit(f"{_shown(value)} is not a finite number")
    return number


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if _number(value) or isinstance(value, bool):
        kind = "boolean" if isinstance(value, bool) else "number"
        raise Unfit(f"{_shown(value)} is a {kind} here; put it in quotes")
    raise Unfit(f"{_shown(value)} is not text")


def _path(value: Any) -> Path:
    if not _text(value).strip():
        raise Unfit("the path is empty (an unset shell variable?)")
    return Path(value).expanduser()


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _boolean,
    int: _integer,
    float: _real,
    str: _text,
    Path: _path,
}


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def plain(value: Any) -> Any:
    """A field's value as YAML holds it: paths as text, tuples as lists, enumerations as their value."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value


# ------------------------------------------------------------------------------------------------- files

_INTEGER = r"[-+]?(?:0|[1-9][0-9]*)"
_FLOAT = r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars; a key that stands twice is refused."""

    yaml_implicit_resolvers: typing.ClassVar = {
        first: [(tag, rule) for tag, rule in rules if tag.rpartition(":")[2] in ("null", "merge")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would not read as text."""

    def represent_text(self, text: str) -> yaml.Node:
        # The other styles turn some line breaks into others, or into blanks.
        odd = any(character in text for character in "\n\r\x85\u2028\u2029")
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_text)
for _class in (_Loader, _Dumper):
    for _tag, _rule, _first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", _INTEGER, "-+0123456789"),
        ("float", _FLOAT, "-+0123456789."),
    ):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_rule})$"), list(_first))


def dump_yaml(values: dict[str, Any]) -> str:
    """`values` as YAML in their own order, which `load_mapping` reads back as the same."""
    return yaml.dump(plain(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


def load_mapping(path: Path) -> dict[str, Any]:
    """The top-level mapping of a `.json`, `.yaml` or `.yml` file; InputError with file and line."""
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise InputError(f"{path}: a configuration is a .json, .yaml or .yml file")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start + 1}); convert the file") from None
    try:
        if path.suffix == ".json":
            values = json.loads(content, object_pairs_hook=_unique)
        else:
            values = yaml.load(content, Loader=_Loader)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}, column {error.colno}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: not YAML: {error.problem or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if values is None and path.suffix != ".json":
        values = {}  # all lines are comments
    if not isinstance(values, dict):
        raise InputError(f"{path}: a list of `name: value` lines is due, not a {type(values).__name__}")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return values
