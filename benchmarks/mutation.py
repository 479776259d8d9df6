"""Do the tests notice? Changes an operator, a number or a reduction of a module at a time and runs that line's tests.

make coverage; .venv/bin/python benchmarks/mutation.py keras_ae/layers keras_ae/evaluation --sample 150

Which tests execute a line is in .coverage. The narrowest run first, one of those that differ by parameters, each mutant
in a fork of a process that has imported TensorFlow. Of each that survives somebody has to say why.
"""

import argparse
import ast
import copy
import importlib.machinery
import os
import random
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

PAIRS = [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq)]
PAIRS += [(ast.And, ast.Or), (ast.Is, ast.IsNot)]
NAMES = [
    pair.split("-") for pair in ("sum-mean", "max-min", "maximum-minimum", "exp-log", "argmax-argmin", "square-abs")
]
SWAPPED: dict[Any, Any] = {old: new for a, b in [*PAIRS, *NAMES] for old, new in ((a, b), (b, a))} | {ast.Pow: ast.Mult}
SECONDS = 100
"""Of the processor, for one mutant; a loop without end is noticed by it."""


def places(tree: ast.Module) -> Iterator[int]:
    """Which nodes can be changed: those inside functions, but for what errors say."""
    told = {id(node) for error in ast.walk(tree) if isinstance(error, ast.Raise) for node in ast.walk(error)}
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    inside = {id(node) for function in functions for part in function.body for node in ast.walk(part)} - told
    return (i for i, node in enumerate(ast.walk(tree)) if id(node) in inside and _change(node) is not None)


def mutant(tree: ast.Module, place: int) -> tuple[range, str, ast.Module]:
    """The module with one node changed; its lines, and how."""
    changed = copy.deepcopy(tree)
    node: Any = list(ast.walk(changed))[place]
    said, make = _change(node) or ("", int)
    make()
    return range(node.lineno, node.end_lineno + 1), said, ast.fix_missing_locations(changed)


def _change(node: Any) -> tuple[str, Callable[[], Any]] | None:
    """What can be changed in a node, and what does it."""
    operator = node.ops[0] if isinstance(node, ast.Compare) else getattr(node, "op", None)
    if type(operator) in SWAPPED:
        new = SWAPPED[type(operator)]
        place, value = ("ops", [new(), *node.ops[1:]]) if isinstance(node, ast.Compare) else ("op", new())
        said = f"{type(operator).__name__} to {new.__name__}"
    elif isinstance(operator, ast.USub | ast.Not):
        said, place, value = "negated", "operand", ast.UnaryOp(operator, node.operand)
    elif isinstance(node, ast.Attribute) and node.attr in SWAPPED:
        place, value = "attr", SWAPPED[node.attr]
        said = f"{node.attr} to {value}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        place, value = "value", not node.value if isinstance(node.value, bool) else node.value * 2 or 1
        said = f"{node.value} to {value}"
    else:
        return None
    return said, lambda: setattr(node, place, value)


def outcome(path: Path, changed: ast.Module, tests: list[str]) -> str:
    """What tests say of a module in place of another, in a process of their own."""
    if not tests:
        return "not run"
    if pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return {0: "survived", 1: "noticed", 2: "noticed"}.get(code, "not run" if code > 0 else "without an end")
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    read = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> Any:
        own = os.path.realpath(loader.path) == str(path)
        return compile(changed, str(path), "exec", dont_inherit=True) if own else read(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code
    failed = pytest.main(["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "-m", "", *tests])
    os._exit(int(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="+", type=Path)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", type=int, default=20, help="of each line at most, one of a function")
    asked = parser.parse_args()
    (measured := coverage.Coverage()).load()
    data = measured.get_data()
    lines = {path: data.contexts_by_lineno(path) for path in data.measured_files()}
    width = Counter(test for of in lines.values() for tests in of.values() for test in tests)
    files = [file.resolve() for place in asked.places for file in sorted(place.glob("*.py"))]
    trees = {file: ast.parse(file.read_text("utf-8")) for file in files}
    every = [(file, place) for file, tree in trees.items() for place in places(tree)]
    chosen = random.Random(asked.seed).sample(every, min(asked.sample or len(every), len(every)))
    import tensorflow  # noqa: F401  (each fork has it)
    import tf2onnx  # noqa: F401

    found: Counter[str] = Counter()
    for file, place in chosen:
        at, said, changed = mutant(trees[file], place)
        of_lines = lines.get(str(file), {})
        tests = {test for line in at for test in of_lines.get(line, ()) if test}
        of_function = {test.partition("[")[0]: test for test in sorted(tests, key=lambda test: (-width[test], test))}
        narrow = sorted(of_function.values(), key=lambda test: (width[test], test))[: asked.tests]
        found[came := outcome(file, changed, [test.partition("|")[0] for test in narrow])] += 1
        print(f"{came}  {os.path.relpath(file)}:{at[0]}  {said}, {len(narrow)} tests", flush=True)
    print(f"{len(every)} mutants, {len(chosen)} of them tried: {dict(found)}")


if __name__ == "__main__":
    main()
