"""params.yaml to frozen dataclasses: the only module that reads YAML.

Read with ruamel, which follows YAML 1.2 as DVC does; PyYAML reads `5e-4` as a string. Every key must
be known, present (unless the field has a default) and of the field's type, so that a misspelt key
stops the stage in its first second instead of silently training with a default.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMS = Path("params.yaml")

T = TypeVar("T")


def section(path: Path, dotted: str) -> dict[str, Any]:
    """The mapping at a dotted path such as "finetune.sizes.tiny"; an empty section gives {}.

    Raises `FileNotFoundError` for a missing file and `ValueError` for a missing key or bad YAML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run from the repository's root, where params.yaml is")
    try:
        value: Any = YAML(typ="safe").load(path)
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    walked = ""
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            known = sorted(value) if isinstance(value, Mapping) else []
            raise ValueError(
                f"{path}: no key {key!r} in {walked or 'the top level'}; there: {', '.join(known)}"
            )
        value = value[key]
        walked = f"{walked}.{key}".lstrip(".")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {dotted} must be a mapping, got {value!r}")
    return dict(value)


def names(path: Path, key: str) -> list[str]:
    """A list of names at the top level, such as `models`. Raises `ValueError` where it is none."""
    value = YAML(typ="safe").load(path).get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{path}: {key} must be a list of names, got {value!r}")
    return value


def merged(path: Path, common: str, specific: str) -> dict[str, Any]:
    """Section `common` overlaid with section `specific`, one level deep."""
    return {**section(path, common), **section(path, specific)}


def from_mapping(cls: type[T], raw: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from plain YAML values, nested dataclasses included.

    Raises `ValueError` that names the full key path, the value and what was expected.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where}: expected a mapping of keys, got {raw!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise ValueError(
            f"{where}: unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(fields))}"
        )
    missing = sorted(
        name
        for name, field in fields.items()
        if name not in raw
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )
    if missing:
        raise ValueError(f"{where}: missing key(s) {', '.join(missing)}; add them to params.yaml")
    values = {name: _convert(raw[name], hints[name], f"{where}.{name}") for name in raw}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


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
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any:
        return value
    if isinstance(hint, type) and isinstance(value, hint):
        if hint is int and isinstance(value, bool):
            raise ValueError(f"{where}: got {value!r}, expected int")
        return value
    raise ValueError(f"{where}: got {value!r}, expected {getattr(hint, '__name__', hint)}")
