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
OWN_TEST = ("CONTRIBUTING.md", "likelihood.md")
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


@pytest.fixture
def few_steps(monkeypatch):
    """Of 4,000: what pages show is how, and figures are not compared but where a test says so."""
    monkeypatch.setattr(training, "_STEPS", 100)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in OWN_TEST and any(_blocks(page, "python"))],
    ids=lambda page: page.name,
)
def test_python_blocks_run(page, folder, few_steps):
    _run(page, {"__name__": "documentation"})


def test_the_divergence_of_the_page_on_likelihood_falls_below_a_tenth_of_a_nat(folder, few_steps, capsys):
    namespace = {"__name__": "documentation"}
    _run(ROOT / "docs/likelihood.md", namespace)
    found = [float(nats) for nats in re.findall(r"^D_KL = (\S+) nats$", capsys.readouterr().out, re.MULTILINE)]
    model, patterns = namespace["model"], namespace["patterns"]
    assert patterns.shape == (30, 16)  # bars and stripes of 4 x 4
    # A row's Monte-Carlo error is that between seeds.
    error = np.std([model.log_likelihood(patterns, k=2000, seed=seed).mean for seed in (1, 2, 3)])
    assert len(found) == 3
    assert min(found) > -3 * error
    assert found[0] > found[-1]
    assert found[-1] < 0.1


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
