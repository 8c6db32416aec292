"""The names a program's flags and settings go by: its fields, and the old names of them.

Used by `common.cli`. The tables hold what all programs share: names that the released repositories of the
papers and earlier versions of transformers use. What is one paper's alone, its own programs pass in.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import typing
from collections.abc import Callable, Mapping
from typing import Any

from common.cli_values import BOOLEANS, Unfit, is_switch
from common.errors import InputError

logger = logging.getLogger("common.cli")

ValueMap = Mapping[str, str] | Callable[[str], str]

# Old name -> the fields it may mean; it means the first that the program has, and nothing where it has none.
ALIASES: dict[str, tuple[str, ...]] = {
    "model_name": ("model_name_or_path", "model"),
    "model_name_or_path": ("model",),
    "lora_weight": ("lora_name_or_path", "adapter"),
    "lora_name_or_path": ("adapter",),
    "save_dir": ("output_dir", "output"),
    "output_dir": ("output",),
    "maxlen": ("max_length", "max_seq_length"),
    "max_seq_length": ("max_length",),
    "model_max_length": ("max_length", "max_seq_length"),
    "torch_dtype": ("dtype",),
    "lora_rank": ("lora_r",),
    "target_modules": ("lora_target_modules",),
    "use_auth_token": ("token",),
    "config_file": ("config",),
    # renamed or dropped by transformers 5, or named otherwise there than in most of the papers
    "num_train_epochs": ("epochs",),
    "per_device_train_batch_size": ("batch_size",),
    "per_gpu_train_batch_size": ("per_device_train_batch_size", "batch_size"),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", "eval_batch_size"),
    "per_device_eval_batch_size": ("eval_batch_size",),
    "evaluation_strategy": ("eval_strategy",),
    "warmup_ratio": ("warmup_steps",),
    "group_by_length": ("train_sampling_strategy",),
    "overwrite_output_dir": ("overwrite",),
    "no_cuda": ("use_cpu",),
    "push_to_hub_token": ("hub_token",),
    "push_to_hub_model_id": ("hub_model_id",),
}

_GONE = "transformers 5 has no such setting"
# Accepted by training programs (those with a field `learning_rate`) without effect: name -> why.
DROPPED: dict[str, str] = {
    "do_train": "training is what this program does",
    "overwrite_output_dir": _GONE,
    "group_by_length": _GONE,
    "logging_dir": "transformers 5 reads TENSORBOARD_LOGGING_DIR instead",
    "save_safetensors": "weights are always saved as safetensors",
    "fp16_backend": _GONE,
    "fp16_opt_level": _GONE,
    "half_precision_backend": _GONE,
    "include_tokens_per_second": _GONE,
    "use_ipex": _GONE,
    "jit_mode_eval": _GONE,
    "ray_scope": _GONE,
}


def _ratio(text: str) -> str:
    """A warm-up ratio as `warmup_steps`, which transformers 5 takes for a ratio when it is below 1."""
    try:
        fits = 0 <= float(text) < 1
    except ValueError:
        fits = True  # the field's own conversion has the better message
    if not fits:
        raise Unfit(f"{text} is not a ratio from 0 to below 1")
    return text


VALUES: dict[str, ValueMap] = {
    "group_by_length": {"1": "group_by_length", "0": "random"},
    "warmup_ratio": _ratio,
}


class Names:
    """What the words of one program's command line and files mean.

    `types` and `metadata` are by field, in order; `required` and `positional` list fields. `aliases` (old
    name -> field), `dropped` and `refused` (old name -> reason) hold what applies to this program.
    """

    def __init__(
        self,
        config_class: type[Any],
        *,
        aliases: Mapping[str, str] | None = None,
        dropped: Mapping[str, str] | None = None,
        refused: Mapping[str, str] | None = None,
        values: Mapping[str, ValueMap] | None = None,
    ) -> None:
        fields = [field for field in dataclasses.fields(config_class) if field.init]
        hints = typing.get_type_hints(config_class)
        self.types: dict[str, Any] = {field.name: hints[field.name] for field in fields}
        self.metadata: dict[str, Mapping[str, Any]] = {field.name: field.metadata for field in fields}
        self.positional = [field.name for field in fields if field.metadata.get("positional")]
        self._defaults = {field.name: _default(field) for field in fields}
        self.required = [name for name, value in self._defaults.items() if value is dataclasses.MISSING]
        targets = {*self.types, "config"}
        wrong = [*self.types.keys() & {"config", "help"}, *set((aliases or {}).values()) - targets]
        if wrong:
            raise TypeError(f"{config_class.__name__}: {wrong[0]!r} can't be a field, or the target of an alias")
        given = {*(aliases or {}), *(dropped or {}), *(refused or {})}
        shared = {old: next((new for new in news if new in targets), "") for old, news in ALIASES.items()}
        shared = {old: new for old, new in shared.items() if new and old not in given and old not in self.types}
        self.aliases: dict[str, str] = {**shared, **(aliases or {})}
        training = DROPPED if "learning_rate" in self.types else {}
        self.dropped: dict[str, str] = {
            **{name: why for name, why in training.items() if name not in given | targets | self.aliases.keys()},
            **(dropped or {}),
        }
        self.refused = dict(refused or {})
        self._values = {**{name: how for name, how in VALUES.items() if name in shared}, **(values or {})}
        self._noticed: set[str] = set()

    def default(self, field: str) -> Any:
        """The field's default; MISSING where it has none."""
        return self._defaults[field]

    def field(self, name: str, before: str) -> str | None:
        """The field (or "config") that `name` stands for; "" when it has no effect, None when it is unknown.

        Logs one notice per old name, with `before` ("--", or the file) before the names; a refused name is an
        InputError.
        """
        if name in self.types or name == "config":
            return name
        flag = "--" if before.startswith("--") else ""
        if name in self.aliases:
            self._notice(f"{before}{name} is the old name of {flag}{self.aliases[name]}")
            return self.aliases[name]
        if name in self.refused:
            raise InputError(f"{before}{name} is not supported: {self.refused[name]}")
        if name in self.dropped:
            self._notice(f"{before}{name} has no effect: {self.dropped[name]}")
            return ""
        return None

    def maps(self, name: str, field: str) -> bool:
        """Whether old values of `name` have new ones."""
        return name in self._values or field in self._values

    def value(self, name: str, field: str, value: Any, place: str) -> tuple[Any, bool]:
        """The new form of an old value of `name`, and whether it was changed (and is text, then)."""
        how = self._values.get(name, self._values.get(field))
        if how is None or value is None:
            return value, False
        if isinstance(value, list):
            pairs = [self.value(name, field, item, place) for item in value]
            return [new for new, _ in pairs], any(changed for _, changed in pairs)
        text = str(value)
        if callable(how):
            new = how(text)
        else:
            switch = BOOLEANS.get(text.lower())
            new = how.get(text, how.get("" if switch is None else str(int(switch)), text))
        if new == text:
            return value, False
        if name == field:
            self._notice(f"{place} {text} is read as {new}")
        return new, True

    def bare_value(self, name: str, field: str) -> str | None:
        """What the flag means without a value, where its old values are mapped: what its value 1 means."""
        new, changed = self.value(name, field, "1", f"--{name}")
        return new if changed else None

    def negatable(self, name: str) -> bool:
        """Whether `--no_NAME` makes sense: a boolean's name, old or new, or one without effect."""
        field = self.aliases.get(name, name)
        return name in self.dropped or (field in self.types and is_switch(self.types[field]))

    def hint(self, name: str, before: str) -> str:
        """` (did you mean --x?)` for the known name nearest to an unknown one; "" where none is near."""
        for known in ([*self.types, "config", "help"], [*self.aliases, *self.dropped]):
            longer = [other for other in known if name and other.startswith(name)]
            near = longer[:1] or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            if near:
                return f" (did you mean {before}{near[0]}?)"
        return ""

    def _notice(self, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            logger.warning("%s", text)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
