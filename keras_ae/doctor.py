"""What is installed here, what could run on it, and what is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_ae import __version__

_BASE = ("numpy", "onnxruntime", "rich", "typer")
_LEFT_OUT = "dev"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


@dataclass(frozen=True)
class Diagnosis:
    """Of this environment.

    Attributes:
        system: of the machine, the system and Python.
        packages: versions by name; None is one that is missing.
        extras: by name, the packages that are missing for it.
        providers: of ONNX Runtime.
        devices: of TensorFlow; None where it is not installed or was not asked.
        notes: what to do, in words.
    """

    system: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, tuple[str, ...]]
    providers: tuple[str, ...]
    devices: tuple[str, ...] | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"keras-ae    {__version__}", *(f"{name:<11} {value}" for name, value in self.system.items())]
        lines += [f"  {name:<18} {version or 'missing'}" for name, version in self.packages.items()]
        for name, missing in self.extras.items():
            lines.append(f"extra {name:<8} {'missing ' + ', '.join(missing) if missing else 'installed'}")
        lines.append(f"onnxruntime {', '.join(self.providers)}")
        if self.devices is not None:
            lines.append(f"tensorflow  {', '.join(self.devices)}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def diagnose(with_tensorflow: bool = True) -> Diagnosis:
    """Looks at this environment; importing TensorFlow for its devices takes some seconds."""
    import onnxruntime

    requirements = _requirements()
    packages = {name: _version(name) for name in dict.fromkeys([*_BASE, *sum(requirements.values(), ())])}
    extras = {extra: tuple(name for name in names if packages[name] is None) for extra, names in requirements.items()}
    devices = _devices() if with_tensorflow and packages.get("tensorflow") else None
    providers = tuple(onnxruntime.get_available_providers())
    return Diagnosis(_system(), packages, extras, providers, devices, tuple(_notes(extras, devices, providers)))


def _requirements() -> dict[str, tuple[str, ...]]:
    """Packages of each extra, as the installed distribution says."""
    found: dict[str, tuple[str, ...]] = {}
    for line in importlib.metadata.requires("keras-ae") or ():
        match = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if match and match[2] != _LEFT_OUT:
            found[match[2]] = (*found.get(match[2], ()), match[1])
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _system() -> dict[str, str]:
    return {
        "python": f"{platform.python_version()}, {sys.executable}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "free space": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB here",
    }


def _devices() -> tuple[str, ...]:
    import tensorflow as tf

    return tuple(device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices())


def _notes(
    extras: Mapping[str, tuple[str, ...]], devices: tuple[str, ...] | None, providers: tuple[str, ...]
) -> list[str]:
    notes = []
    if extras.get("train"):
        notes.append("models run here, and are not trained: pip install 'keras-ae[train]'")
    if devices is not None and not any(name.startswith("GPU") for name in devices):
        notes.append("TensorFlow sees no GPU, and trains on the processor")
    if not any("CUDA" in name for name in providers):
        notes.append("ONNX Runtime runs on the processor; onnxruntime-gpu in its place brings CUDA")
    rivals = [name for name in _RUNTIMES if _version(name) is not None]
    if len(rivals) > 1:
        notes.append(f"{' and '.join(rivals)} fill one folder: uninstall both, then install the one that is meant")
    if importlib.util.find_spec("keras_ae") and not (Path(__file__).parent / "web/index.html").is_file():
        notes.append("the page of `keras-ae explore` is not built: `make web` in a clone of the repository (needs npm)")
    return notes
