"""What the documentation shows is true: its Python runs, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from keras_ae import training

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "saved_models/README.md"])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)")


def _blocks(page, *languages):
    """(line, text) of each fenced block of one of the languages."""
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        if block[1] in languages:
            yield text.count("\n", 0, block.start(2)) + 1, block[2]


def _run(page, namespace):
    for line, source in _blocks(page, "python"):
        # Empty lines in front, so that a traceback shows the line of the page.
        exec(compile("\n" * (line - 1) + source, page, "exec"), namespace)


def _commands():
    for page in PAGES:
        for line, text in _blocks(page, "bash", "console"):
            for offset, command in enumerate(text.splitlines()):
                if command.removeprefix("$ ").startswith("keras-ae "):
                    where = f"{page.relative_to(ROOT)}:{line + offset}"
                    yield pytest.param(shlex.split(command.removeprefix("$ "), comments=True)[1:], id=where)


def _application():
    from keras_ae.cli import app

    return typer.main.get_command(app)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CONTRIBUTING.md" and any(_blocks(page, "python"))],
    ids=lambda page: page.name,
)
def test_python_blocks_run(page, folder, monkeypatch, capsys):
    monkeypatch.setattr(training, "_STEPS", 100)  # of 4,000: what they show is how, and figures are not compared
    namespace = {"__name__": "documentation"}
    _run(page, namespace)
    if page.name == "likelihood.md":  # but for the divergence of bars and stripes, which is known
        first, *_, last = (float(nats) for nats in re.findall(r"^D_KL = (\S+) nats$", capsys.readouterr().out, re.M))
        model, patterns = namespace["model"], namespace["patterns"]
        error = np.std([model.log_likelihood(patterns, k=2000, seed=seed).mean for seed in (1, 2, 3)])
        assert -3 * error < last < min(0.1, first)


def test_the_recipe_of_contributing_adds_its_term(monkeypatch):
    import keras
    import numpy as np

    from keras_ae import building, families, layers, recipes

    monkeypatch.setitem(recipes.RECIPES, "l1_ae", None)  # is taken out again after the test
    _run(ROOT / "CONTRIBUTING.md", {**vars(families), **vars(recipes), "LossLayer": layers.LossLayer, "ops": keras.ops})
    model = building.build("l1_ae", 64, 8, hidden=[16], weight=0.1)
    x = np.random.default_rng(0).normal(size=(10, 64)).astype("float32")
    model(x)
    l1 = np.abs(model.encode(x)).sum(axis=1).mean()
    rmse = np.sqrt(np.mean(np.square(model.reconstruct(x) - x)))
    assert sorted(float(loss) for loss in model.losses) == pytest.approx(sorted([0.1 * l1, rmse]), rel=1e-4)
    assert {"l1", "rmse"} <= {metric.name for metric in model.metrics}


@pytest.mark.parametrize("arguments", [*_commands()])
def test_commands_parse(arguments, tmp_path, monkeypatch):
    name, *rest = arguments
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.toml").write_text('source = "digits"\nout = "saved_models/digits"\n')  # is read at once
    application = _application()
    assert name in application.commands
    application.commands[name].make_context(name, rest)  # raises for an unknown option, a missing or surplus argument


def test_the_page_of_the_command_line_shows_every_command():
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert [name for name in _application().commands if f"keras-ae {name} " not in page.replace("\n", " \n")] == []


def test_the_table_of_recipes_is_current():
    from keras_ae.recipes import RECIPES

    # The commands and `fit` have a seed of their own.
    options = {name: ", ".join(f"`{o}`" for o in r.options if o != "seed") for name, r in RECIPES.items()}
    rows = [f"| `{name}` | {r.summary} | {options[name]} | {r.paper} |" for name, r in RECIPES.items()]
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if re.match(r"\| `\w+` \|.*\|.*\| .*\d{4} \|$", line)] == rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(prose) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
