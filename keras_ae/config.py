"""What `keras-ae fit` takes, as a TOML file, and the file that a manifest amounts to."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_ae.errors import InputError, reading

_TABLES = ("options", "schema")


def read_config(path: Path, known: Iterable[str]) -> dict[str, Any]:
    """Values for the parameters of the command by name, of a file such as

        source = "orders.csv"
        out = "saved_models/orders"
        drop = ["order_id"]

        [options]
        hidden = [128]

        [schema]
        zip = "categorical"

    Args:
        path: the file.
        known: names of the parameters.

    Raises:
        InputError: for a file that is no TOML, or a key that is none of them.
    """
    with reading(path, "TOML file", OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    names = sorted({*(name for name in known if name not in ("option", "config")), "options"})
    unknown = [name for name in content if name not in names]
    if unknown:
        raise InputError(f"{path} must hold keys of {', '.join(names)}. Received: {unknown[0]!r}.")
    for name in _TABLES:
        if not isinstance(content.get(name, {}), dict | str):
            raise InputError(f"{path}: [{name}] must be a table. Received: {content[name]!r}.")
    options = content.pop("options", {})
    if options:
        content["option"] = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    if isinstance(content.get("schema"), dict):
        content["schema"] = json.dumps(content["schema"])
    return content


def config_of(manifest: Mapping[str, Any]) -> str:
    """The file that fits the same again; its source is a name, and must be where that is.

    Raises:
        InputError: for an artifact that `fit` did not write.
    """
    asked = manifest.get("asked")
    if asked is None:
        raise InputError("A config file is of an artifact that `keras-ae fit` wrote. Received: another.")
    window = manifest.get("window") or {}
    values = {
        "source": manifest["source"],
        **{name: value for name, value in asked.items() if name != "options"},
        "labels": manifest.get("labels_column"),
        "drop": manifest.get("dropped") or window.get("dropped") or None,
        "window": window.get("length"),
        "stride": window.get("stride"),
        "time": window.get("time"),
        "on_error": "skip" if manifest.get("rows_skipped") else None,
        "stream": bool(manifest.get("stream")) or None,
    }
    tables = {"options": asked["options"], "schema": _schema(manifest)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *(f"{json.dumps(key)} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _schema(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """By column its kind, or beside that how its cells are read and scaled where that is told."""
    told = {
        column["name"]: {key: column[key] for key in ("kind", "format", "decimal", "transform") if column.get(key)}
        for column in (manifest.get("table") or {}).get("columns", ())
    }
    return {name: of if len(of) > 1 else of["kind"] for name, of in told.items()}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(of)}' for key, of in value.items())} }}"
    return json.dumps(value)
