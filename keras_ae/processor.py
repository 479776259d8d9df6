"""The processor of this machine, and where what was compiled for it is kept. Standard library only."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor's name, as well as the system tells it."""
    names = _cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """What the processor can do, by the names of Linux; empty where Linux doesn't tell."""
    return {flag for line in [*_cpuinfo("flags"), *_cpuinfo("features")] for flag in line.split()}


def _cpuinfo(key: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith(key)]


def compilation_cache() -> Path | None:
    """The folder where XLA keeps what it compiled, for the next process; one for each TensorFlow and kind of processor.

    Made where it is not there. None where it can't be written, or TensorFlow could not be told its name.
    """
    machine = hashlib.sha256(f"{platform.machine()} {sorted(cpu_flags())}".encode()).hexdigest()[:12]
    try:
        version = importlib.metadata.version("tensorflow")
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "keras_ae" / f"xla-{version}-{machine}"
        folder.mkdir(parents=True, exist_ok=True)
    except (importlib.metadata.PackageNotFoundError, OSError, RuntimeError):  # RuntimeError: no home
        return None
    # The name goes into a list of flags that blanks separate.
    return folder if os.access(folder, os.W_OK) and not any(map(str.isspace, str(folder))) else None
