"""What a folder in saved_models/ holds: a manifest, hashes, and how it is written whole. Standard library only."""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_ae.errors import ArtifactError, InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no flock: two runs there are not told of each other
    fcntl = None  # type: ignore[assignment]

SCHEMA = 1
MANIFEST = "manifest.json"
_FORMAT = "keras_ae"
_EMPTY = '"manifest_sha256": ""'


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact, after checking its own hash; the files that it lists are checked as they are used.

    Raises:
        ArtifactError: for what is not an artifact, a changed byte, or a newer schema.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes().decode()  # not read_text, which takes a changed line ending for the same
        manifest = json.loads(text)
        own = manifest["manifest_sha256"]
        known = manifest["format"] == _FORMAT
    except FileNotFoundError:
        if not folder.exists():
            raise ArtifactError(f"No such folder: {folder}.") from None
        raise ArtifactError(f"{folder} is not an artifact: it must hold {MANIFEST}.") from None
    except NotADirectoryError:
        raise ArtifactError(f"{folder} is not an artifact: it must be a folder.") from None
    except OSError as error:
        raise ArtifactError(f"{path} could not be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged, or not of a keras_ae artifact.") from error
    blank = text.replace(f'"manifest_sha256": "{own}"', _EMPTY)
    if not known or hashlib.sha256(blank.encode()).hexdigest() != own:
        raise ArtifactError(f"{path} was changed after it was written.")
    if manifest["schema"] > SCHEMA:
        raise ArtifactError(
            f"{path} must have a schema of at most {SCHEMA}. Received: {manifest['schema']}; update keras-ae."
        )
    return dict(manifest)


def check_file(folder: Path, name: str, manifest: dict[str, Any]) -> Path:
    """The path of a file that the manifest lists, after checking its hash."""
    path = folder / name
    expected = manifest["files"].get(name)
    if expected is None:
        raise ArtifactError(f"{folder} holds no {name}.")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing.")
    if sha256(path) != expected:
        raise ArtifactError(f"{path} was changed after it was written.")
    return path


def verify_files(folder: Path) -> dict[str, Any]:
    """Checks every file's hash, and that no other file is there; returns the manifest."""
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        check_file(folder, name, manifest)
    foreign = sorted(set(list_files(folder)) - set(manifest["files"]) - {MANIFEST})
    if foreign:
        raise ArtifactError(f"{folder} holds files that its manifest does not list: {', '.join(foreign)}.")
    return manifest


def precisions(manifest: dict[str, Any]) -> list[str]:
    """Precisions of the ONNX graphs that an artifact holds, float32 first."""
    held = {name.split("/")[1] for name in manifest["files"] if name.startswith("onnx/")}
    return sorted(held, key=lambda name: (name != "float32", name))


def rmse(metrics: dict[str, Any], rows: str) -> tuple[float, bool]:
    """RMSE of `train`, `validation`, `test` or `test_pca` rows by the metrics of a manifest, and whether it is in
    deviations of each column: where these have units of their own, in raw ones the largest alone would count.
    """
    own = f"rmse_scaled_{rows}" in metrics
    return metrics[f"rmse_scaled_{rows}" if own else f"rmse_{rows}"], own


def list_files(folder: Path) -> list[str]:
    """Relative names of all files below a folder, with forward slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says but for what `write_manifest` adds."""
    own = ("format", "schema", "files", "manifest_sha256")
    return {key: value for key, value in manifest.items() if key not in own}


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes the manifest, with the hash of every file below the folder and of itself."""
    files = {name: sha256(folder / name) for name in list_files(folder) if name != MANIFEST}
    manifest = {"format": _FORMAT, "schema": SCHEMA, **content, "files": files, "manifest_sha256": ""}
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_bytes(text.replace(_EMPTY, f'"manifest_sha256": "{digest}"').encode())


def is_artifact(folder: Path) -> bool:
    """Whether a folder is one of ours, whole or damaged; manifest.json is a name that others use too."""
    return is_of_format(folder / MANIFEST, _FORMAT)


def is_of_format(file: Path, name: str) -> bool:
    """Whether a file is JSON that says so."""
    try:
        return bool(json.loads(file.read_bytes())["format"] == name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def check_target(folder: Path, is_ours: Callable[[Path], bool] = is_artifact, what: str = "an artifact") -> None:
    """Raises InputError for a folder that `replacing` would not replace."""
    if folder.exists() and not (folder.is_dir() and (is_ours(folder) or not any(folder.iterdir()))):
        raise InputError(
            f"{folder} must be new, empty or {what} to replace. Received: something else's folder or file."
        )


@contextlib.contextmanager
def replacing(folder: Path, is_ours: Callable[[Path], bool] = is_artifact, what: str = "an artifact") -> Iterator[Path]:
    """A temporary folder that takes the place of `folder`, whole, when the block ends without an error.

    An error, Ctrl-C or a full disk in the block leaves what was there before, untouched, and nothing half-written.
    Nobody else can replace the folder meanwhile. What a killed process left is removed by the next.

    Args:
        folder: to be written: new, empty, or one to replace.
        is_ours: whether a folder may be replaced.
        what: may be replaced, for the message.

    Raises:
        InputError: before the block, where `folder` can't be written, holds something else, or is being written.
    """
    folder = Path(os.path.realpath(folder))  # a link goes on pointing where it did
    try:
        check_target(folder, is_ours, what)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock"), folder):
            _remove_left(folder)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
            try:
                temporary.chmod(0o777 & ~_umask())
                yield temporary
                _swap(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{folder} could not be written: {error.strerror or error}.") from error


def check_new(folder: Path, advice: str = "") -> None:
    """Raises InputError, with what may help, for a folder that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} must be new or empty{advice}. Received: one that holds something.")


@contextlib.contextmanager
def locked(path: Path, folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`, a file at `path`, during the block; it ends with its process, even a killed one.

    Raises:
        InputError: where another process, or another block of this one, holds it.
    """
    if fcntl is None:
        yield
        return
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{folder} must be written by one run at a time. Received: a second.") from None
            try:
                # Whoever held it may have removed the file after it was opened here: then this one locks nothing.
                if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    continue
            except FileNotFoundError:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _remove_left(folder: Path) -> None:
    """Removes temporary folders of killed processes; who calls holds the lock, so that none of them is in use."""
    of_folder = re.compile(re.escape(f".{folder.name}.") + r"[a-z0-9_]{8}\.partial")
    for left in folder.parent.iterdir():
        if of_folder.fullmatch(left.name) and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _swap(new: Path, folder: Path) -> None:
    """Renames `new` to `folder`; what was there is then at `new`, to be removed."""
    if not folder.exists():
        new.rename(folder)
    elif not _exchange(new, folder):
        old = folder.with_name(f".{folder.name}.previous")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        old.rename(new)


def _exchange(a: Path, b: Path) -> bool:
    """Exchanges two folders in one step, where the system can (Linux); there is no moment without `b`."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_working_directory, exchange = -100, 2
    return bool(
        rename(at_working_directory, os.fsencode(a), at_working_directory, os.fsencode(b), ctypes.c_uint(exchange)) == 0
    )
