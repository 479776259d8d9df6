"""What the processor of this machine can do, and where what was compiled for it is kept. Standard library only."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path


def cpu_flags() -> set[str]:
    """What the processor can do, by the names of Linux; empty where Linux doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {
        flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split(":")[1].split()
    }


def compilation_cache() -> Path:
    """Where XLA keeps what it compiled, for the next process; a folder for each TensorFlow and kind of processor."""
    try:
        version = importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    machine = hashlib.sha256(f"{platform.machine()} {sorted(cpu_flags())}".encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "keras_ae" / f"xla-{version}-{machine}"
