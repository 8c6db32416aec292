"""Command lines from dataclasses: flags, configuration files, old names, help, exit codes, sub-commands.

A program is a dataclass and a function of it::

    @dataclass
    class Config:
        output_dir: Path = field(metadata={"help": "where the model goes", "group": "saving"})
        learning_rate: float = 1e-5

    if __name__ == "__main__":
        cli.run(main, Config, description=__doc__)

The fields are the flags; a field without a default is a required flag. Metadata of a field, all optional:
`help`, `group` (its heading in --help), `positional` (True: given by place), `recipe` (False: no part of the
recipe, so that `describe` leaves it out: `dry_run`, access tokens).

argparse writes the help. It does not read the flags: it takes `-1e-5` for a flag, lets a boolean flag swallow
what follows, and knows neither files nor old names; transformers' HfArgumentParser is built on it, and also
takes prefixes of flags for flags. Nothing here imports torch, so that --help is quick.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import difflib
import importlib
import logging
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common import cli_help, cli_values
from common.cli_names import Names, ValueMap
from common.cli_values import BOOLEANS, Unfit
from common.environment import program_name
from common.errors import InputError

__all__ = ["FAILED", "GOOD", "INTERRUPTED", "UNREAD", "WRONG_USE", "describe", "dispatch", "parse", "run"]

Config = TypeVar("Config")
logger = logging.getLogger(__name__)

GOOD, FAILED, WRONG_USE, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141  # exit codes

_FLAG = re.compile(r"--[A-Za-z][\w-]*(=|$)|-h$|--$")
_CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
_subcommand: contextvars.ContextVar[str | None] = contextvars.ContextVar("subcommand", default=None)


def parse(
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    description: str | None = None,
    aliases: Mapping[str, str] | None = None,
    dropped: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    values: Mapping[str, ValueMap] | None = None,
) -> Config:
    """The instance of `config_class` that a command line describes.

    Configuration files (`--config FILE`, several times if need be, or a bare FILE.json or FILE.yaml as first
    argument of a program without positional fields) override the defaults, flags override files, and of a
    flag given twice the last counts. Dashes and underscores in names are equal. A boolean is `--fp16`,
    `--fp16 0` or `--no_fp16`; a list takes several words, or commas, or one JSON list; a dict is JSON; `none`
    is None where the field allows it.

    Args:
        argv: the words after the program's name; default `sys.argv[1:]`.
        aliases: old name -> field, in flags and files; a notice is logged. `cli_names.ALIASES` always apply.
        dropped: old name -> why it has no effect now; accepted with a notice, whatever its value.
        refused: old name -> what to do instead; an error.
        values: name as typed (old or new) -> {old value: new value} or a function of the text. What a mapping
            does not hold stays as it is; a flag without a value is looked up as 1.

    Raises:
        InputError: unknown or missing flags, values that don't fit, broken files; `run` makes it exit code 2.
        SystemExit: with 0, after --help.
    """
    names = Names(config_class, aliases=aliases, dropped=dropped, refused=refused, values=values)
    words = _Words(names, sys.argv[1:] if argv is None else argv)
    if words.help:
        if _first_process():
            print(cli_help.program_help(names, prog or _program(), description), end="")
        raise SystemExit(GOOD)
    found: dict[str, Any] = {}
    for file in words.files:
        found.update(_read_file(names, file))
    found.update(_place(names, words.bare))
    for name, field, items in words.flags:
        with _located(f"--{name}" if field == name else f"--{name} (now --{field})"):
            found[field] = _flag_value(names, name, field, items)
    missing = [name for name in names.required if name not in found]
    if missing:
        shown = ", ".join(name.upper() if name in names.positional else f"--{name}" for name in missing)
        raise InputError(f"missing: {shown} (--help explains the flags)")
    return config_class(**found)


def describe(config: Any) -> str:
    """The resolved configuration as YAML, in the order of its fields; `--config` reads it back as the same.

    Fields marked `recipe=False` are left out.
    """
    fields = (field for field in dataclasses.fields(config) if field.init and field.metadata.get("recipe", True))
    return cli_values.dump_yaml({field.name: getattr(config, field.name) for field in fields})


def run(
    main: Callable[[Config], int | None],
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    **options: Any,
) -> NoReturn:
    """Parse the command line (`options` as for `parse`), call `main` with the configuration, and exit.

    The exit code is what `main` returns (None: 0). InputError, and a file or folder that is missing, of the
    wrong kind or not permitted, become one line on stderr and exit code 2; an interrupt one line and 130; an output
    that nobody reads any more (`| head`) no line and 141, as of other tools; any other exception keeps its
    traceback. Log lines from INFO up of the shared library and the program's own
    package go to stderr; under torchrun those of the first process of each machine, as do errors in flags.
    """
    prog = prog or _program()
    _log_to_stderr("common", main.__module__.partition(".")[0])
    with _read_or_not():
        try:
            config = parse(config_class, argv, prog=prog, **options)
        except InputError as error:
            _exit(prog, f"error: {error}", WRONG_USE, say=_first_process())
        _guarded(prog, lambda: main(config))


def dispatch(
    commands: Mapping[str, str],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    description: str | None = None,
) -> NoReturn:
    """Run one of several sub-commands and exit as `run` does.

    `commands` maps a name to "package.module:function". The module is imported when its command is chosen,
    and the function called with the list of the remaining words; `run` and `parse` within it know the full
    name of the program. Without a command all are listed, with the first lines of the functions' docstrings.
    """
    prog = prog or _program()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"] and "help" not in commands:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(cli_help.command_list(commands, prog, description), file=sys.stdout if words else sys.stderr)
        raise SystemExit(GOOD if words else WRONG_USE)
    name, rest = words[0], words[1:]
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(commands)}"
        _exit(prog, f"error: unknown command {name!r}; {hint}", WRONG_USE, say=_first_process())
    module, _, function = commands[name].partition(":")
    token = _subcommand.set(f"{prog} {name}")
    try:
        with _read_or_not():
            _guarded(f"{prog} {name}", lambda: getattr(importlib.import_module(module), function)(rest))
    finally:
        _subcommand.reset(token)


# ------------------------------------------------------------------------------------------ flags and files


class _Words:
    """A command line taken apart: `files`, `flags` (typed name, field, words or True / False), `bare` words.

    `help` is set, and the rest incomplete, when --help stands among the flags.
    """

    def __init__(self, names: Names, words: Sequence[str]) -> None:
        self.names = names
        self.files: list[Path] = []
        self.flags: list[tuple[str, str, list[str] | bool]] = []
        self.bare: list[str] = []
        self.help = False
        self._queue = list(words)
        unknown: list[str] = []
        first = self._queue[0] if self._queue else ""
        if not names.positional and first.endswith(_CONFIG_SUFFIXES) and not first.startswith("-"):
            self.files.append(Path(self._queue.pop(0)))
        while self._queue and not self.help:
            word = self._queue.pop(0)
            if word in ("-h", "--help"):
                self.help = True
            elif word == "--":
                self.bare, self._queue = [*self.bare, *self._queue], []
            elif not word.startswith("-") or word == "-":
                self.bare.append(word)
            elif not self._read_flag(word):
                typed = word.partition("=")[0]
                unknown.append(f"flag {typed}{names.hint(_name(typed), '--')}")
                self._take(len(self._queue))
        if unknown and not self.help:
            raise InputError(f"unknown {', '.join(unknown)}; --help lists the flags")

    def _read_flag(self, word: str) -> bool:
        """Read one flag and the words that belong to it; False when there is no such flag."""
        typed, sign, value = word.partition("=")
        name, given = _name(typed), [value] if sign else None
        if not typed.startswith("--"):
            return False
        field = self.names.field(name, "--")
        if field is None and name == "local_rank":  # what launchers add on their own
            self._take(0 if given else 1)
        elif field is None and name.startswith("no_") and self.names.negatable(name[3:]):
            field = self.names.field(name[3:], "--no_")
            if given:
                raise InputError(f"{typed} takes no value")
            if field:
                self.flags.append((field, field, False))
        elif field is None:
            return False
        elif field == "":  # accepted without effect, whatever follows
            self._take(0 if given else len(self._queue))
        elif field == "config":
            files = given or self._take(1)
            if not files:
                raise InputError(f"{typed} needs a file")
            self.files.append(Path(files[0]))
        else:
            if cli_values.is_list(self.names.types[field]) and any(other == field for _, other, _ in self.flags):
                logger.warning("%s is given twice; the last list counts", typed)
            self.flags.append((name, field, self._values(name, field) if given is None else given))
        return True

    def _values(self, name: str, field: str) -> list[str] | bool:
        """The words that follow a flag as its value; True for a switch without one."""
        annotation = self.names.types[field]
        switch = cli_values.is_plain_switch(annotation)
        if switch and self.names.positional and not (self._queue and self._queue[0].lower() in BOOLEANS):
            return True  # what follows is a positional argument
        items = self._take(len(self._queue) if cli_values.is_list(annotation) else 1)
        if not items and not cli_values.is_switch(annotation) and self.names.bare_value(name, field) is None:
            raise InputError(f"--{name} needs a value (give one that begins with -- as --{name}=VALUE)")
        return items or True

    def _take(self, most: int) -> list[str]:
        """Remove and return words from the front of the queue, at most so many, up to the next flag."""
        count = 0
        while count < min(most, len(self._queue)) and not _FLAG.match(self._queue[count]):
            count += 1
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken


def _name(typed: str) -> str:
    return typed.lstrip("-").replace("-", "_")


def _flag_value(names: Names, name: str, field: str, items: list[str] | bool) -> Any:
    annotation = names.types[field]
    if isinstance(items, bool):
        new = names.bare_value(name, field) if items else None
        return items if new is None else cli_values.from_words(annotation, [new])
    if cli_values.is_list(annotation) and names.maps(name, field):
        items = [part.strip() for item in items for part in item.split(",")]
    return cli_values.from_words(annotation, names.value(name, field, items, f"--{name}")[0])


def _place(names: Names, bare: Sequence[str]) -> dict[str, Any]:
    """Bare words to the positional fields, in order; a list takes all that are left."""
    found: dict[str, Any] = {}
    for field in names.positional:
        count = len(bare) if cli_values.is_list(names.types[field]) else 1
        taken, bare = bare[:count], bare[count:]
        if taken:
            with _located(field.upper()):
                found[field] = cli_values.from_words(names.types[field], taken, split=False)
    if bare:
        raise InputError(f"unexpected {bare[0]!r}; the names of flags begin with -- (--help lists them)")
    return found


def _read_file(names: Names, path: Path) -> dict[str, Any]:
    """The fields that a configuration file sets."""
    if not path.exists():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*")], n=1)
        raise InputError(f"{path}: no such file" + (f"; did you mean {path.parent / near[0]}?" if near else ""))
    found: dict[str, Any] = {}
    origin: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in cli_values.load_mapping(path).items():
        name = str(key).replace("-", "_")
        field = names.field(name, f"{path}: ")
        if field in (None, "config"):
            unknown.append(f"{str(key)!r}{names.hint(name, '')}")
        elif field:
            if field in origin:
                raise InputError(f"{path}: {origin[field]} and {key} are one setting; keep one of them")
            origin[field] = str(key)
            with _located(f"{path}: {key}" if name == field else f"{path}: {key} (now {field})"):
                new, changed = names.value(name, field, value, f"{path}: {key}")
                found[field] = cli_values.convert(names.types[field], new, text=changed)
    if unknown:
        raise InputError(f"{path}: unknown {', '.join(unknown)}")
    return found


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    try:
        yield
    except Unfit as error:
        raise InputError(f"{place}: {error}") from None


# --------------------------------------------------------------------------------------- process and exit


def _program() -> str:
    return _subcommand.get() or program_name()


def _first_process() -> bool:
    """Whether this is the only process, or the first of its machine under torchrun and its like."""
    return os.environ.get("LOCAL_RANK", "0") in ("0", "-1")


def _log_to_stderr(*packages: str) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # What libraries say to their developers: nothing that a user of a command could act on.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    for package in packages:
        if logging.getLogger(package).level == logging.NOTSET:
            logging.getLogger(package).setLevel(logging.INFO if _first_process() else logging.ERROR)


def _guarded(prog: str, call: Callable[[], int | None]) -> NoReturn:
    try:
        code = call()
    except InputError as error:
        logger.debug("where it was raised:", exc_info=True)
        _exit(prog, f"error: {error}", WRONG_USE)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        if error.filename is None:
            raise
        logger.debug("where it was raised:", exc_info=True)
        _exit(prog, f"error: {os.fsdecode(error.filename)}: {error.strerror}", WRONG_USE)
    except KeyboardInterrupt:
        _exit(prog, "interrupted", INTERRUPTED)
    raise SystemExit(code or GOOD)


@contextlib.contextmanager
def _read_or_not() -> Iterator[None]:
    """Leave with `UNREAD` where whoever reads the output has gone; other pipes that break keep their traceback."""
    try:
        try:
            yield
        finally:
            if sys.stdout:  # None where the shell closed it
                sys.stdout.flush()  # here, or Python complains of it at its end
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in output.poll(0)):
            raise
        # What is left goes nowhere, so that the flush at Python's end can't fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNREAD) from None


def _exit(prog: str, message: str, code: int, *, say: bool = True) -> NoReturn:
    if say:
        rank = os.environ.get("RANK", "0")
        where = "" if rank in ("0", "-1") else f" [rank {rank}]"
        print(f"{prog}:{where} {' '.join(message.splitlines())}", file=sys.stderr)
    raise SystemExit(code)
