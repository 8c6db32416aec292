"""The text of --help, for programs made from dataclasses and for their list of sub-commands.

Used by `common.cli`. Nothing is imported for the list: the one-line descriptions of sub-commands are read
from the source of their functions.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli_values
from common.cli_names import Names

_EXIT_CODES = "exit codes: 0 good, 1 a comparison failed, 2 wrong use"


def program_help(names: Names, prog: str, description: str | None) -> str:
    """The help of one program: usage, description, flags under their headings with defaults, old names."""
    required = [
        f"--{name} {cli_values.type_name(names.types[name])}" for name in names.required if not _placed(names, name)
    ]
    places = [name.upper() + (" ..." if cli_values.is_list(names.types[name]) else "") for name in names.positional]
    config = [] if names.positional else ["[CONFIG.yaml]"]
    parser = argparse.ArgumentParser(
        usage=_safe(" ".join([prog, *config, *places, *required, "[--flag value ...]"])),
        description=(description or "").strip(),
        epilog=_epilog(names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    groups: dict[str, Any] = {}
    for name in names.types:
        heading = "arguments" if _placed(names, name) else names.metadata[name].get("group", "flags")
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add(groups[heading], names, name)
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE", help="JSON or YAML with any of these settings; flags override it")
    general.add_argument("-h", "--help", action="store_true", help="show this and exit")
    return parser.format_help()


def _add(group: Any, names: Names, name: str) -> None:
    annotation = names.types[name]
    note = "required" if name in names.required else f"default: {_shown(cli_values.plain(names.default(name)))}"
    text = " ".join(filter(None, [names.metadata[name].get("help"), f"({note})"]))
    if _placed(names, name):
        group.add_argument(name, metavar=name.upper(), help=_safe(text))
    elif cli_values.is_plain_switch(annotation):
        group.add_argument(f"--{name}", f"--no_{name}", action="store_true", help=_safe(text))
    else:
        group.add_argument(f"--{name}", metavar=cli_values.type_name(annotation), help=_safe(text))


def _placed(names: Names, name: str) -> bool:
    return name in names.positional


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(int(value))
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "none"
    return repr(value) if isinstance(value, str) and value.split() != [value] else str(value)


def _safe(text: str) -> str:
    return text.replace("%", "%%")  # argparse formats usage and help of flags with %


def _epilog(names: Names) -> str:
    old = [f"--{old} (--{new})" for old, new in names.aliases.items()]
    gone = [f"--{old}" for old in names.dropped]
    lines = [f"old names: {', '.join(old)}"] if old else []
    lines += [f"accepted without effect: {', '.join(gone)}"] if gone else []
    return "\n".join(textwrap.fill(line, 78, subsequent_indent="  ") for line in [*lines, _EXIT_CODES])


def command_list(commands: Mapping[str, str], prog: str, description: str | None) -> str:
    """The help of a program with sub-commands: each with the first line of its function's docstring."""
    width = max(map(len, commands), default=0)
    lines = [f"  {name:{width}}  {_first_line(target)}".rstrip() for name, target in commands.items()]
    about = [description.strip()] if description else []
    closing = f"`{prog} COMMAND --help` explains a command\n{_EXIT_CODES}"
    return "\n\n".join([f"usage: {prog} COMMAND ...", *about, "\n".join(["commands:", *lines]), closing])


def _first_line(target: str) -> str:
    """The first line of the docstring of "package.module:function", else of its module's, else nothing."""
    module, _, function = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.Module([], [])
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""  # the list of commands must not fail because one of them does
    found: list[ast.FunctionDef | ast.Module] = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    text = next(filter(None, (ast.get_docstring(node) for node in [*found, tree])), "")
    return text.strip().partition("\n")[0].rstrip(".")
