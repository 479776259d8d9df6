"""Which artifacts are served: loaded, found by name and version, and loaded anew when they change on disk."""

import math
import re
import timeit
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact, runtime
from keras_ae.errors import ArtifactError, InputError, KerasAEError
from keras_ae.sessions import Provider
from keras_ae.signatures import DEFAULT, Signatures

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NUMBER = re.compile(r"[1-9]\d{0,17}")

Mark = tuple[int, int, int]
"""Of a manifest on disk: another one when the artifact was written anew."""


class NotServed(InputError):  # noqa: N818  (named for what it says)
    """No model, version or function of that name is here."""


@dataclass(frozen=True)
class Version:
    """One artifact in memory, every session open.

    Attributes:
        name: of the model.
        number: of the version.
        model: its functions.
        signatures: their inputs and outputs.
        seconds: that one row takes, by function.
        values: in the answer to one row, by function.
        mark: of its manifest on disk.
    """

    name: str
    number: str
    model: runtime.Model
    signatures: Signatures
    seconds: dict[str, float]
    values: dict[str, int]
    mark: Mark

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where there were no labels."""
        return tuple(self.model.manifest.get("classes") or ())

    @property
    def has_columns(self) -> bool:
        """Whether the model was trained on a table, whose cells may come by the names of its columns."""
        return bool(self.model.manifest.get("columns"))

    @property
    def has_cells(self) -> bool:
        """Whether these are more than finite numbers: words, dates, or missing."""
        return bool(self.model.manifest.get("table"))

    @property
    def has_series(self) -> bool:
        """Whether the model is of series of different lengths."""
        return bool(self.model.manifest.get("sequences"))


class Models:
    """The served models; `refresh` follows the disk.

    Args:
        sources: each DIR or NAME=DIR; DIR an artifact, whose version is 1, or a folder of numbered ones. The name is
            the folder's by default.
        keep: newest versions of a model that stay loaded.
        precision: of the ONNX graphs, one that every artifact holds.
        threads: of ONNX Runtime within one call.
        providers: of ONNX Runtime, as for `runtime.load`.

    Raises:
        InputError: for a name twice, or a precision that is not there.
        ArtifactError: for a folder without artifacts, or a damaged one.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        keep: int = 2,
        precision: str = "float32",
        threads: int = 1,
        providers: Sequence[Provider] | str | None = None,
    ) -> None:
        self._keep = keep
        self._providers = providers
        self._precision = precision
        self._threads = threads
        self._folders: dict[str, Path] = {}
        for source in sources:
            name, _, folder = str(source).rpartition("=")
            path = Path(folder)
            name = name or path.resolve().name
            if not _NAME.fullmatch(name):
                raise InputError(f"A model's name must be of letters, digits, `_`, `.` and `-`. Received: {name!r}.")
            if name in self._folders:
                raise InputError(f"Each model must have a name of its own, NAME=DIR. Received {name!r} twice.")
            self._folders[name] = path
        self.loaded: dict[str, dict[str, Version]] = {}
        for name, path in self._folders.items():
            found = self._on_disk(path)
            if not path.is_dir():
                raise ArtifactError(f"No such folder: {path}.")
            if not found:
                raise ArtifactError(f"{path} is neither an artifact nor a folder of numbered ones.")
            self.loaded[name] = {number: self._load(name, number, *found[number]) for number in found}

    def find(self, name: str, version: str | None = None) -> Version:
        """The newest version of a model, or the one that is asked for.

        Raises:
            NotServed: where it is not here.
        """
        versions = self.loaded.get(name)
        if versions is None:
            raise NotServed(f"No model {name!r} is served here. Served: {', '.join(self.loaded)}.")
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise NotServed(f"Model {name!r} has no version {version!r} here. Served: {', '.join(versions)}.")
        return versions[version]

    def find_function(self, name: str, version: str | None = None) -> tuple[Version, str]:
        """MODEL.FUNCTION, or MODEL for its default one: what the Open Inference Protocol calls a model."""
        model, _, function = name.rpartition(".")
        if name not in self.loaded and model in self.loaded:
            found = self.find(model, version)
            if function in found.signatures:
                return found, function
        return self.find(name, version), DEFAULT

    def refresh(self) -> list[tuple[str, dict[str, Any]]]:
        """Loads what is new or was replaced, and drops what is gone; what can't be loaded is left out.

        Requests that run meanwhile keep the version that they began with.

        Returns:
            Each change as an event and its details.
        """
        events = []
        for name, path in self._folders.items():
            before, after = self.loaded[name], {}
            found = self._on_disk(path)
            if not found:
                reason = f"{path} holds no artifact now; what is loaded stays."
                events.append(("missing", {"model": name, "error": reason}))
            for number, (folder, mark) in found.items():
                known = before.get(number)
                if known is not None and known.mark == mark:
                    after[number] = known
                    continue
                try:
                    after[number] = self._load(name, number, folder, mark)
                    events.append(("loaded", {"model": name, "version": number}))
                except (KerasAEError, OSError) as error:
                    if known is not None:
                        after[number] = known
                    events.append(("not loaded", {"model": name, "version": number, "error": str(error)}))
            if not after:
                continue
            events += [("dropped", {"model": name, "version": number}) for number in before if number not in after]
            self.loaded[name] = after
        return events

    def _on_disk(self, path: Path) -> dict[str, tuple[Path, Mark]]:
        """Newest first: the folder and mark of each version that is to be served."""
        try:
            numbers = sorted((f.name for f in path.iterdir() if _NUMBER.fullmatch(f.name)), key=int, reverse=True)
        except OSError:
            numbers = []
        folders = {number: path / number for number in numbers}
        if (path / artifact.MANIFEST).exists():
            folders = {"1": path}
        found = {}
        for number, folder in folders.items():
            try:
                stat = (folder / artifact.MANIFEST).stat()
            except OSError:
                continue
            found[number] = (folder, (stat.st_ino, stat.st_mtime_ns, stat.st_size))
            if len(found) == self._keep:
                break
        return found

    def _load(self, name: str, number: str, folder: Path, mark: Mark) -> Version:
        model = runtime.load(folder, self._precision, self._providers, self._threads)
        known = model.signatures
        seconds = {function: _seconds(model, function) for function in known}
        values = {f: sum(math.prod(of["shape"]) for of in known[f]["outputs"].values()) for f in known}
        return Version(name, number, model, known, seconds, values, mark)


def _seconds(model: runtime.Model, function: str) -> float:
    """Of one row of zeros, best of three after the one that opens the session."""
    inputs = {
        name: np.zeros((1, *of["shape"]), of["dtype"]) for name, of in model.signatures[function]["inputs"].items()
    }
    model.run(function, inputs)
    return min(timeit.repeat(lambda: model.run(function, inputs), number=1, repeat=3))
