"""params.yaml to frozen dataclasses: the only module that reads YAML.

Read with ruamel, which follows YAML 1.2 as DVC does; PyYAML reads `5e-4` as a string. Every key must
be known, present (unless the field has a default) and of the field's type, so that a misspelt key
stops the stage in its first second instead of silently training with a default.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMS = Path("params.yaml")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Section `model`: what all models of a pipeline share."""

    image_hw: tuple[int, int]
    """Height and width of the crop that a model sees; multiples of 16."""
    stride: int = 16
    """Pixels from one token to the next: 16, or 8 with overlapping patches."""
    head: Literal["classic", "simple"] = "classic"
    head_channels: int = 256
    """Channels of the classic head's deconvolutions; 256 is published."""
    attention: Literal["full", "window", "shift", "pool", "shift_pool"] = "full"
    """Where each block looks (paper, table 4); any weights run with any."""
    window_hw: tuple[int, int] = (8, 8)
    """Height and width of a window in tokens; unused with full attention."""
    global_blocks: tuple[int, ...] = ()
    """Blocks (0-based) that keep full attention."""
    patch_padding: bool = True
    """As every released pose model has it."""


START_KEYS = ("size", "init", "model")
"""Of an entry of `finetune.sizes` or `distill.students`, beside what is of the recipe: a size where the
entry is not called by it, the model folder that the training starts from, and what differs in `model`."""


def model(entry: str) -> ModelConfig:
    """Section `model` of params.yaml, and over it what the section `entry` has under its key `model`."""
    own = [f"{entry}.model"] if "model" in section(PARAMS, entry) else []
    return overlay(ModelConfig, PARAMS, "model", *own)


def size(entry: str) -> str:
    """Size of the model of such an entry as finetune.sizes.tiny: what it says, or what it is called."""
    return str(section(PARAMS, entry).get("size") or entry.rsplit(".", 1)[-1])


def image_hw() -> tuple[int, int]:
    """`model.image_hw` of params.yaml, for stages that depend on nothing else of the model."""
    given = {key: value for key, value in section(PARAMS, "model").items() if key == "image_hw"}
    return from_mapping(ModelConfig, given, "model").image_hw


def section(path: Path, dotted: str) -> dict[str, Any]:
    """The mapping at a dotted path such as "finetune.sizes.tiny"; an empty section gives {}.

    Raises `FileNotFoundError` for a missing file and `ValueError` for a missing key or bad YAML.
    """
    value: Any = _read(path)
    walked: list[str] = []
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            there = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else "no keys"
            place = ".".join(walked) or "the top level"
            raise ValueError(f"{path}: section {dotted} is missing; in {place} there: {there}")
        value = value[key]
        walked.append(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {dotted} must be a mapping, got {value!r}")
    return dict(value)


def names(path: Path, key: str) -> list[str]:
    """A list of names at the top level, such as `models`. Raises `ValueError` where it is none."""
    content = _read(path)
    value = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{path}: {key} must be a list of names, got {value!r}")
    return value


def overlay(cls: type[T], path: Path, *sections: str, apart: tuple[str, ...] = ()) -> T:
    """An instance of the dataclass `cls` from several sections, a later one over an earlier one.

    A nested configuration is laid over the earlier section's key by key; any other value replaces it.
    Keys `apart` are somebody else's.
    Raises as `section` and `from_mapping` do; a bad key is named where it stands.
    """
    raw: dict[str, Any] = {}
    places: dict[str, str] = {}
    for dotted in sections:
        own = {key: value for key, value in section(path, dotted).items() if key not in apart}
        _lay_over(cls, raw, places, own, dotted, "")
    return _build(cls, raw, sections[-1], places)


def _lay_over(
    cls: type, raw: dict[str, Any], places: dict[str, str], own: Mapping[str, Any], dotted: str, at: str
) -> None:
    """`own`, the section `dotted`, over `raw`; `places` gets where each key under `at` stands."""
    hints = typing.get_type_hints(cls)
    for key, value in own.items():
        places[f"{at}{key}"] = f"{dotted}.{key}"
        nested = hints.get(key)
        if dataclasses.is_dataclass(nested) and isinstance(value, Mapping):
            inner = raw[key] = dict(raw[key]) if isinstance(raw.get(key), Mapping) else {}
            _lay_over(nested, inner, places, value, f"{dotted}.{key}", f"{at}{key}.")  # type: ignore[arg-type]
        else:
            raw[key] = value


def from_mapping(cls: type[T], raw: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from plain YAML values, nested dataclasses included.

    Raises `ValueError` that names the full key path, the value and what was expected.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: expected a mapping of keys, got {raw!r}")
    return _build(cls, raw, where, {})


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run from the repository's root, where params.yaml is")
    try:
        return YAML(typ="safe").load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error


def _build(
    cls: type[T], raw: Mapping[str, Any], where: str, places: Mapping[str, str], at: str = ""
) -> T:
    """See `from_mapping`; `places` gives the full path of keys under `at` that stand elsewhere."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]

    def place(key: str) -> str:
        return places.get(f"{at}{key}", f"{where}.{key}")

    for key in sorted(set(raw) - set(fields)):
        known = ", ".join(sorted(fields))
        owner = next((n for n in fields if key in _field_names(hints[n])), None)
        moved = f"; it is {place(key).removesuffix(key)}{owner}.{key} now" if owner else ""
        raise ValueError(f"{place(key)}: no such key; expected one of {known}{moved}")
    missing = sorted(
        f"{where}.{name}"
        for name, field in fields.items()
        if name not in raw
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )
    if missing:
        raise ValueError(f"{', '.join(missing)}: missing; add it to params.yaml")
    values = {}
    for name, value in raw.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping):
            values[name] = _build(hints[name], value, place(name), places, f"{at}{name}.")
        else:
            values[name] = _convert(value, hints[name], place(name))
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _field_names(hint: Any) -> set[str]:
    """Of a nested configuration; none of anything else."""
    return {f.name for f in dataclasses.fields(hint)} if dataclasses.is_dataclass(hint) else set()


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type; int is accepted for float, a list for a tuple, nothing else."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        failures = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return _convert(value, option, where)
            except ValueError as error:
                failures.append(str(error))
        raise ValueError("; ".join(failures))
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ValueError(f"{where}: got {value!r}, expected one of {', '.join(map(repr, arguments))}")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, where)
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise ValueError(f"{where}: got {value!r}, expected a list")
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                raise ValueError(f"{where}: got {value!r}, expected {len(arguments)} values")
            return tuple(
                _convert(v, a, f"{where}[{i}]")
                for i, (v, a) in enumerate(zip(value, arguments, strict=True))
            )
        converted = [_convert(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(converted) if origin is tuple else converted
    if origin is dict:  # of names that the reader of the section knows, to values of one type
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{where}: got {value!r}, expected a mapping of names")
        return {key: _convert(one, arguments[1], f"{where}.{key}") for key, one in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{where}: got {value!r}, expected a finite number")
        return float(value)
    if hint is Any:
        return value
    if isinstance(hint, type) and isinstance(value, hint):
        if hint is int and isinstance(value, bool):
            raise ValueError(f"{where}: got {value!r}, expected int")
        return value
    raise ValueError(f"{where}: got {value!r}, expected {getattr(hint, '__name__', hint)}")


def as_plain(**sections: Any) -> dict[str, Any]:
    """Configurations as nested plain values, for MLflow, fingerprints and provenance."""
    return {
        name: dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
        for name, value in sections.items()
    }
