"""What is in an artifact, whether it is whole, and its model in other formats: `info`, `verify`, `export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_ae.cli.arguments import Artifact, Json, Precision
from keras_ae.cli.console import print_json, tensorflow_imported
from keras_ae.errors import InputError


class ExportKind(StrEnum):
    """Formats of `keras-ae export --to`."""

    saved_model = "saved_model"
    onnx = "onnx"
    tf_serving = "tf_serving"


def info(
    artifact: Artifact,
    config: Annotated[
        bool, typer.Option("--config", help="Print the TOML file that `keras-ae fit --config` makes the same of.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what an artifact holds, its metrics and exports."""
    from keras_ae.artifact import read_manifest

    manifest = read_manifest(artifact)
    if config:
        from keras_ae.config import config_of

        return typer.echo(config_of(manifest), nl=False)
    if as_json:
        return print_json(manifest)
    source = manifest["input"]
    typer.echo(
        f"{artifact}: {manifest['name']}, made by keras-ae {manifest['versions']['keras_ae']} on {manifest['created']}"
    )
    typer.echo(f"  input      {source['dtype']} (batch, {', '.join(map(str, source['shape']))})")
    if manifest.get("columns"):
        typer.echo(f"  columns    {', '.join(_columns(manifest))}")
    typer.echo(f"  latents    {manifest['latent_dim']}")
    if manifest.get("classes"):
        typer.echo(f"  classes    {_some(manifest['classes'])}")
    typer.echo(f"  functions  {', '.join(manifest['functions'])}")
    for name, value in manifest.get("metrics", {}).items():
        typer.echo(f"  {name:<22} {value:.6g}")
    for kind, figures in manifest["exports"].items():
        typer.echo(
            f"  {kind:<22} largest difference {figures['max_abs_diff']:.2e} ({figures['max_rel_diff']:.1e} relative)"
        )
    for name, figures in manifest.get("precisions", {}).items():
        typer.echo(f"  {name:<16} {'refused: ' + figures['reason'] if figures['method'] is None else gains(figures)}")
    for note in manifest.get("notes", ()):
        typer.echo(f"  note: {note}")


def verify(artifact: Artifact, as_json: Json = False) -> None:
    """Check every file's hash, and each export against Keras.

    The exports only where TensorFlow is installed.
    """
    import importlib.util

    from keras_ae.artifact import verify_files

    manifest = verify_files(artifact)
    if importlib.util.find_spec("tensorflow") is None:
        from keras_ae import runtime

        runtime.load(artifact).generate(1, seed=0)
        result: dict[str, Any] = {"artifact": str(artifact), "files": len(manifest["files"]), "exports": None}
    else:
        with tensorflow_imported("Verifying"):
            from keras_ae import storage
        result = storage.verify(artifact)
    if as_json:
        return print_json(result)
    typer.echo(f"{artifact}: {result['files']} files unchanged")
    for kind, figures in (result["exports"] or {}).items():
        typer.echo(f"  {kind:<12} agrees with Keras to {figures['max_rel_diff']:.1e} relative")
    for name, differences in result.get("precisions", {}).items():
        typer.echo(f"  {name:<12} differs from Keras by {max(differences.values()):.1e} relative, as when it was made")
    if result["exports"] is None:
        typer.echo("  exports not compared with Keras: TensorFlow is not installed")


def export(
    artifact: Artifact,
    to: Annotated[ExportKind, typer.Option("--to", help="Format.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="New folder for the export alone; tf_serving: may hold earlier versions. "
            "[default: DIR-<format>; for --precision DIR itself]",
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="ONNX: each function's weights in its own file.")
    ] = False,
    precision: Annotated[
        Precision | None, typer.Option(help="ONNX in int8 or float16, measured; refused where it is slower or worse.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="For --precision: what the artifact was trained on. [default: what its manifest names]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="tf_serving: of the model. [default: the artifact's folder]")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="tf_serving: newest versions that stay. [default: all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export the model again, verified, into a folder of its own.

    For TF Serving the artifact's SavedModel is added as a new version, with what it warms up on.
    """
    if to is not ExportKind.tf_serving and (name is not None or keep is not None):
        raise InputError(f"`--name` and `--keep` are of --to tf_serving. Received: --to {to.value}.")
    if precision is not None and to is not ExportKind.onnx:
        raise InputError(f"`--precision` is of --to onnx. Received: --to {to.value}.")
    if source is not None and precision is None:
        raise InputError("`--source` is for --precision. Received: no precision.")
    if to is ExportKind.tf_serving:
        return _export_tf_serving(
            artifact, out or artifact.with_name(f"{artifact.name}-{to.value}"), name, keep, as_json
        )
    with tensorflow_imported("Exporting"):
        from keras_ae import storage
    if precision is not None:
        result = storage.add_precision(artifact, precision.value, out, source, single_file)
        if as_json:
            return print_json(result)
        return typer.echo(f"{result['out']}: {precision.value}, {gains(result['figures'])}")
    out = out or artifact.with_name(f"{artifact.name}-{to.value}")
    result = storage.export(artifact, to.value, out, single_file)
    if as_json:
        return print_json(result)
    typer.echo(f"{out}: {to.value} agrees with Keras to {result['export']['max_rel_diff']:.1e} relative")


def _export_tf_serving(artifact: Path, out: Path, name: str | None, keep: int | None, as_json: bool) -> None:
    with tensorflow_imported("Exporting"):
        from keras_ae.export.tf_serving import export_tf_serving
    result = export_tf_serving(artifact, out, name, keep)
    if as_json:
        return print_json(result)
    removed = f"; removed {', '.join(map(str, result['removed']))}" if result["removed"] else ""
    typer.echo(f"{out}: {result['model']} version {result['version']}{removed}")
    typer.echo(f"  next  docker compose --file {out / 'compose.yaml'} up")


def _columns(manifest: dict[str, Any]) -> list[str]:
    """Names of the columns, with what they are where that is not a number."""
    kinds = {of["name"]: of["kind"] for of in manifest.get("table", {}).get("columns", ())}
    shown = {name: kinds.get(name, "numeric") for name in manifest["columns"]}
    return [name if kind == "numeric" else f"{name} ({kind})" for name, kind in shown.items()]


def _some(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def gains(figures: dict[str, Any]) -> str:
    """What a precision that was kept gains and costs, of its `reconstruct`."""
    tried = figures["tried"][figures["method"]]
    ratio = tried["time_ratio"]["reconstruct"]
    return (
        f"{1 / ratio['1']:.1f} times as fast as float32 for one row and {1 / ratio['64']:.1f} times for 64, "
        f"{tried['bytes'] / figures['float32']['bytes']:.0%} of its bytes, RMSE {100 * tried['rmse_change']:+.2f} %"
    )
