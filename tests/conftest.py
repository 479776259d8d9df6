"""One small trained artifact, shared by the whole session."""

import gc
import os
import pkgutil
import shutil
import sys
import tracemalloc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # A core each: threads of one worker's TensorFlow that wait for those of another take a third more time.
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(os.environ["PYTEST_XDIST_WORKER"][2:]) % len(_cores)]})

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_not_collected_again() -> Iterator[None]:
    """TensorFlow's graphs are millions of objects, and every full collection would visit them all."""
    yield
    gc.collect()
    gc.freeze()


_LONG = ("test_cli", "test_distributed", "test_docs", "test_recipes", "test_sklearn", "test_tutorials")
"""Files that take long: first, so that of two workers none is left with one of them alone."""
_XLA = False
_FEW = {
    "keras_ae.evaluation.fidelity.TREES": 10,
    "keras_ae.evaluation.numbers.RESAMPLES": 20,
    "keras_ae.priors.flow._ROUNDS": 4,
}
"""Of what a fit takes seconds for, and tests of other things don't look at; `in_full` has as much as users."""
_IN_FULL: dict[str, int] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(scope="session", autouse=True)
def _in_short() -> Iterator[None]:
    """XLA takes seconds to compile what trains for a few steps: `jit_compile="auto"` has it where a test asks by `xla`.

    TensorFlow is not imported for this; what imports it after all tests were collected is left as it is.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "keras_ae.resident" in sys.modules:
            from keras_ae.resident import ResidentModel

            compile_model = ResidentModel.compile

            def compiled(model: Any, *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
                plain = jit_compile == "auto" and not _XLA
                compile_model(model, *args, jit_compile=False if plain else jit_compile, **kwargs)

            patch.setattr(ResidentModel, "compile", compiled)
            for name, few in _FEW.items():
                _IN_FULL[name] = pkgutil.resolve_name(name)
                patch.setattr(name, few)
        yield


@pytest.fixture
def xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is compiled as for users."""
    monkeypatch.setattr(sys.modules[__name__], "_XLA", True)


@pytest.fixture(scope="module")
def in_full() -> Iterator[None]:
    """Reports and flows take as many trees, resamples and rounds as for users."""
    with pytest.MonkeyPatch.context() as patch:
        for name, whole in _IN_FULL.items():
            patch.setattr(name, whole)
        yield


class Done(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Calls the command line in this process; gives exit code, stdout and stderr, what C++ writes included."""
    from keras_ae import cli

    def call(*arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", ["keras-ae", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Done(end.value.code or 0, *capfd.readouterr())  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="session")
def digits_fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `keras_ae.fit` gives back for a small network on digits; its artifact is on disk."""
    import keras_ae

    out = tmp_path_factory.mktemp("artifacts") / "digits"
    return keras_ae.fit("digits", out=out, epochs=8, latent_dim=8, hidden=[64])


@pytest.fixture(scope="session")
def digits_artifact(digits_fitted: Any) -> Path:
    """The folder of that artifact; not to be changed: copy it first."""
    return digits_fitted.artifact


@pytest.fixture(scope="session")
def node() -> list[str]:
    """The command that runs the program of examples/deploy in Node.js."""
    programs = Path(__file__).parents[1] / "examples/deploy"
    if shutil.which("node") is None or not (programs / "node_modules/onnxruntime-node").is_dir():
        pytest.skip("no Node.js, or onnxruntime-node is not installed in examples/deploy")
    return ["node", str(programs / "run.mjs")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_artifact: Path) -> Path:
    """A working folder that holds `saved_models/digits`."""
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models/digits").symlink_to(digits_artifact, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def traced_peak() -> Callable[[Callable[[], object]], int]:
    """The most bytes of Python that a call holds: the least of three, as what other threads of the process allocate
    meanwhile is counted, too.
    """

    def peak(call: Callable[[], object]) -> int:
        peaks = []
        for _ in range(3):
            gc.collect()
            tracemalloc.start()
            call()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(peaks)

    return peak


@pytest.fixture
def spoil() -> Callable[[Path, str], None]:
    """Makes a parquet file one of no use, in a way that has a name."""
    return _spoil


def _spoil(file: Path, how: str) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    if how == "unreachable":
        file.unlink()
        file.symlink_to(file.with_name("gone"))
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-2000])
    elif how == "without rows":
        pq.write_table(table.slice(0, 0), file)
    elif how == "other columns":
        pq.write_table(table.drop_columns(table.column_names[:1]), file)
    elif how == "other kind":
        pq.write_table(table.set_column(0, table.column_names[0], pa.array(["a"] * len(table))), file)
    elif how == "spoilt":
        content = bytearray(file.read_bytes())
        content[8:4_000] = bytes(3_992)
        file.write_bytes(content)
    else:
        assert how == "not finite", how  # a way without a branch would spoil nothing
        pq.write_table(
            table.set_column(0, table.column_names[0], pa.array([*[0.5] * (len(table) - 1), np.inf], pa.float32())),
            file,
        )
