"""A :class:`NodeConfig` from a TOML file, the environment and what the caller adds.

The file has the names of :class:`NodeConfig` and of the configurations within it::

    node = "a"
    listen = "10.0.0.1:7946"
    seeds = ["seed.example:7946"]
    keys_file = "laminar.keys"

    [shuffle]
    cluster = "production"
    window_bytes = 16777216

The environment has the same names in capitals, joined by underscores: ``LAMINAR_SEEDS``,
``LAMINAR_SHUFFLE_WINDOW_BYTES``, ``LAMINAR_SHUFFLE_TLS_KEY``. Lists are separated by commas, and
``LAMINAR_PEERS`` is ``a=host:port,b=host:port``. It beats the file, and the caller beats both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec

from laminar.errors import ConfigError
from laminar.node.config import NodeConfig

PREFIX: Final = "LAMINAR_"

_FILES: Final = (
    ("keys_file",),
    ("state_file",),
    ("shuffle", "tls", "certificate"),
    ("shuffle", "tls", "key"),
    ("shuffle", "tls", "ca"),
)
"""Settings that are paths, in a file relative to the file's own folder."""


class _Setting(NamedTuple):
    path: tuple[str, ...]
    type: Any

    @property
    def variable(self) -> str:
        return PREFIX + "_".join(self.path).upper()


def read_config(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> NodeConfig:
    """The configuration of a node.

    ``path`` is the TOML file, ``environ`` the environment, and ``overrides`` are settings by name,
    within a section as ``"shuffle.cluster"``; each may be left out.

    Raises :class:`~laminar.errors.ConfigError`, saying where, when something is not known, not of
    its type or out of range.
    """
    table = _read_file(Path(path)) if path is not None else {}
    for setting, value in _read_environment(environ or {}):
        _put(table, setting.path, value)
    for name, value in (overrides or {}).items():
        _put(table, tuple(name.split(".")), value)
    if "node" not in table:
        raise ConfigError(f"a node needs an id: `node` in the file, or {PREFIX}NODE")
    config: NodeConfig = _convert(table, NodeConfig, str(path or "settings"))
    return config


def variables() -> list[str]:
    """The names of all environment variables that :func:`read_config` looks at."""
    return [setting.variable for setting in _settings(NodeConfig)]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    _check_known(table, NodeConfig, (), path)
    for name in _FILES:
        section: object = table
        for part in name[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(name[-1]), str):
            section[name[-1]] = str(path.parent / section[name[-1]])
    return table


def _check_known(table: Mapping[str, Any], kind: type, at: tuple[str, ...], path: Path) -> None:
    hints = get_type_hints(kind)
    for name, value in table.items():
        here = ".".join((*at, name))
        if name not in hints:
            near = get_close_matches(name, hints, 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{path}: there is no setting {here!r}{guess}")
        section = _section(hints[name])
        if section is not None and isinstance(value, dict):
            _check_known(value, section, (*at, name), path)


def _read_environment(environ: Mapping[str, str]) -> Iterator[tuple[_Setting, object]]:
    settings = {setting.variable: setting for setting in _settings(NodeConfig)}
    sections = tuple(
        f"{PREFIX}{name.upper()}_"
        for name, hint in get_type_hints(NodeConfig).items()
        if _section(hint) is not None
    )
    for variable, text in environ.items():
        setting = settings.get(variable)
        if setting is not None:
            value = _split(text, setting.type)
            yield setting, _convert(value, setting.type, variable, strict=False)
        elif variable.startswith(PREFIX):
            near = get_close_matches(variable, settings, 1, 0.85)
            guess = f"; did you mean {near[0]}?" if near else ""
            if near or variable.startswith(sections):
                raise ConfigError(f"there is no setting {variable}{guess}")


def _split(text: str, kind: Any) -> object:
    """Text as what a file would have for a setting of that type."""
    origin = getattr(kind, "__origin__", None)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if origin is tuple:
        return parts
    if origin is Mapping:
        return dict(part.partition("=")[::2] for part in parts)
    return text


def _settings(kind: type, at: tuple[str, ...] = ()) -> Iterator[_Setting]:
    hints = get_type_hints(kind)
    for each in fields(kind):
        section = _section(hints[each.name])
        if section is not None:
            yield from _settings(section, (*at, each.name))
        else:
            yield _Setting((*at, each.name), hints[each.name])


def _section(hint: Any) -> type | None:
    """The dataclass that ``hint`` is, or may be."""
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return None


def _put(table: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value


def _convert(value: object, kind: Any, where: str, *, strict: bool = True) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error
