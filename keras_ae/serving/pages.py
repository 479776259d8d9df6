"""The OpenAPI document of what is served, and one page of it for people."""

import html as escaping
from typing import Any

import orjson

from keras_ae import __version__
from keras_ae.serving import v2
from keras_ae.serving.calls import required
from keras_ae.serving.versions import Models, Version
from keras_ae.signatures import DEFAULT, DEFAULT_NAMES

_ERRORS = {
    "400": "Malformed, or rows of a wrong shape, type or size.",
    "404": "No such model, version or function.",
    "408": "The request did not come in time.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "429": "Too many requests at once; `Retry-After` says when to come again.",
    "504": "The answer could not be computed in time.",
}
_PATHS = (
    ("/v2/health/live", "get", "Whether the server runs", "object"),
    ("/v2/health/ready", "get", "Whether its models are loaded", "object"),
    ("/v2", "get", "The server", "object"),
    ("/v2/models", "get", "Names of the models", "object"),
    ("/v2/repository/index", "post", "Names and versions of the models", "array"),
)
_CELL = {"type": ["number", "string", "boolean", "null"]}  # of a table
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre,code{font:14px ui-monospace,monospace}pre{overflow-x:auto;padding:.8rem;border:1px solid #8884}"
    "table{border-collapse:collapse}th,td{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top}"
)


def openapi(models: Models, most_rows: int) -> dict[str, Any]:
    """OpenAPI 3.1 of every path, with the exact inputs and outputs of each function."""
    paths: dict[str, Any] = {
        path: {method: _operation(summary, {"type": kind})} for path, method, summary, kind in _PATHS
    }
    for path, kind in (("/metrics", "text/plain"), ("/", "text/html")):
        paths[path] = {"get": _operation({"/": "This server in a page"}.get(path, "For Prometheus"), {}, kind)}
    paths["/openapi.json"] = {"get": _operation("This document", {"type": "object"})}
    for name, versions in models.loaded.items():
        newest = models.find(name)
        for which, version in (("", newest), *((f"/versions/{number}", one) for number, one in versions.items())):
            base = f"/v1/models/{name}{which}"
            paths[base] = {"get": _operation("Status, as TF Serving tells it", {"type": "object"})}
            paths[f"{base}/metadata"] = {"get": _operation("Signatures, as TF Serving tells them", {"type": "object"})}
            paths[f"{base}:predict"] = {"post": _predict(version, most_rows)}
            for function in version.signatures:
                known = v2.metadata(version, function)["name"]
                base = f"/v2/models/{known}{which}"
                paths[base] = {"get": _operation(f"Tensors of {function}", {"type": "object"})}
                paths[f"{base}/ready"] = {"get": _operation(f"Whether {function} is loaded", {"type": "object"})}
                paths[f"{base}/infer"] = {"post": _infer(version, function)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras-ae",
            "version": __version__,
            "description": "TF Serving's REST API and the Open Inference Protocol v2.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                    "additionalProperties": False,
                }
            }
        },
    }


def html(models: Models) -> str:
    """A page that needs nothing else: the models, their functions, and how to call each."""
    parts = [_model_part(models.find(name), list(versions)) for name, versions in models.loaded.items()]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>keras-ae</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>"
        "<h1>keras-ae</h1><p>TF Serving's REST API and the Open Inference Protocol v2. "
        "<a href=openapi.json>OpenAPI document</a>, <a href=metrics>metrics</a>.</p>" + "".join(parts) + "</html>"
    )


def _model_part(version: Version, numbers: list[str]) -> str:
    rows = []
    for function, sides in version.signatures.items():
        taken, given = (
            "<br>".join(
                f"<code>{key}</code> {of['dtype']} ({', '.join(map(str, ['batch', *of['shape']]))})"
                for key, of in side.items()
            )
            for side in (sides["inputs"], sides["outputs"])
        )
        rows.append(f"<tr><td><code>{function}</code><td>{taken}<td>{given}")
    name = escaping.escape(version.name)
    classes = f"<p>Classes: {escaping.escape(', '.join(version.classes))}.</p>" if version.classes else ""
    columns = list(version.model.schema_of_table().names) if version.has_columns else []
    table = f"<p>Columns, instead of <code>x</code>: {escaping.escape(', '.join(columns))}.</p>" if columns else ""
    cells = ", ".join(f"{orjson.dumps(column).decode()}: ..." for column in columns)
    row = escaping.escape(f"{{{cells}}}", quote=False) if columns else "[...]"
    return (
        f"<h2>{name}</h2><p>Versions: {', '.join(numbers)}.</p>{classes}{table}"
        f"<table><tr><th>signature<th>inputs<th>outputs{''.join(rows)}</table>"
        f"<pre>curl http://HOST/v1/models/{name}:predict "
        """-d '{"signature_name": "generate", "inputs": {"n": 5, "seed": 0}}'\n"""
        f"curl http://HOST/v1/models/{name}:predict "
        f"""-d '{{"signature_name": "score", "instances": [{row}, {row}]}}'\n"""
        f"curl http://HOST/v2/models/{name}.encode/infer "
        """-d '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, ...], "data": [...]}]}'</pre>"""
    )


def _operation(summary: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    content = {kind: {"schema": schema} if schema else {}}
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": content}}}


def _posted(operation: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation["responses"].update({status: {"description": said, "content": error} for status, said in _ERRORS.items()})
    return {**operation, "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


def _predict(version: Version, most_rows: int) -> dict[str, Any]:
    forms = []
    for function, sides in version.signatures.items():
        names = [function, *(DEFAULT_NAMES if function == DEFAULT else ())]
        head = {"signature_name": {"enum": names}}
        needed = [] if function == DEFAULT else ["signature_name"]
        of_rows = {name: _row_of(version, name, of) for name, of in sides["inputs"].items()}
        of_columns = {name: _column(row, most_rows) for name, row in of_rows.items()}
        needed_inputs = required(sides["inputs"])
        rows, columns = [_object(of_rows, needed_inputs)], [_object(of_columns, needed_inputs)]
        if len(needed_inputs) == 1:
            rows.append(of_rows[needed_inputs[0]])
            columns.append(of_columns[needed_inputs[0]])
        if function == "generate":
            columns.append(_sampling(version, most_rows))
        if version.has_columns and "x" in sides["inputs"]:
            table = version.model.schema_of_table().names
            cells = {"type": "array", "minItems": 1, "maxItems": most_rows, "items": _CELL}
            rows.append(_object(dict.fromkeys(table, _CELL), list(table)))
            columns.append(_object(dict.fromkeys(table, cells), list(table)))
        instances = {"type": "array", "minItems": 1, "maxItems": most_rows}
        forms += [_object({**head, "instances": {**instances, "items": kind}}, [*needed, "instances"]) for kind in rows]
        forms += [_object({**head, "inputs": kind}, [*needed, "inputs"]) for kind in columns]
    answer = {
        "anyOf": [_object({"predictions": {"type": "array"}}, ["predictions"]), _object({"outputs": {}}, ["outputs"])]
    }
    return _posted(_operation("A function on rows (`instances`) or columns (`inputs`)", answer), {"anyOf": forms})


def _infer(version: Version, function: str) -> dict[str, Any]:
    sides = version.signatures[function]
    is_table = version.has_columns and "x" in sides["inputs"]
    names = version.model.schema_of_table().names if is_table else ()
    number = {"type": ["number", "null"] if version.has_series else "number"}
    cell = _CELL if is_table else number
    tensor = _object(
        {
            "name": {"enum": [*sides["inputs"], *names]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": ["FP32", "FP64", "INT32", "INT64", "UINT8", *(("BYTES", "BOOL") if is_table else ())]},
            "data": {"type": "array", "items": cell},
        },
        ["name", "shape", "datatype", "data"],
    )
    body = _object({"id": {"type": "string"}, "inputs": {"type": "array", "items": tensor}}, ["inputs"])
    answer = {"type": "object", "required": ["model_name", "model_version", "outputs"]}
    return _posted(
        _operation(f"{function}: {', '.join(sides['inputs'])} to {', '.join(sides['outputs'])}", answer), body
    )


def _object(properties: dict[str, Any], needed: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _sampling(version: Version, most_rows: int) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "n": {"type": "integer", "minimum": 1, "maximum": most_rows},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    }
    if version.classes:
        properties["label"] = {"enum": [*version.classes, *range(-1, len(version.classes))]}
    if version.has_cells:
        properties["missing"] = {"type": "boolean"}
    return _object(properties, ["n"])


def _row_of(version: Version, name: str, of: dict[str, Any]) -> dict[str, Any]:
    """One row of an input: of series as many steps as there are, with null for a value that is missing."""
    if name != "x" or not version.has_series:
        return _nested(of)
    steps, channels = of["shape"]
    step = {"type": "array", "minItems": channels, "maxItems": channels, "items": {"type": ["number", "null"]}}
    return {"type": "array", "minItems": 1, "maxItems": steps, "items": step}


def _nested(of: dict[str, Any]) -> dict[str, Any]:
    """One row of a tensor: arrays in arrays."""
    low, high = (0, 255) if of["dtype"] == "uint8" else (-1e6, 1e6)
    schema: dict[str, Any] = {"type": "number", "minimum": low, "maximum": high}
    if of["dtype"] == "uint8":
        schema["type"] = "integer"
    if of["dtype"] == "int32":
        schema = {"type": ["integer", "string"]}  # index or name of a class
    for size in reversed(of["shape"]):
        schema = {"type": "array", "minItems": size, "maxItems": size, "items": schema}
    return schema


def _column(row: dict[str, Any], most_rows: int) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": most_rows, "items": row}
