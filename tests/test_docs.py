"""The documents say what is there."""

import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from helpers import shapes_data, write_npz

import probe
from probe.commands import main
from probe.settings import ProbeGrid
from probe.studies.given_features import run_features

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
PAGES = {"README.md": README, **DOCS}
NOT_RUN = re.compile(r"<!-- not run: .*? -->\n```python\n.*?```", re.DOTALL)  # with the reason


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    """Every command by its full name, those of groups too."""
    found = {above + name: command for name, command in group.commands.items()}
    for name, command in group.commands.items():
        found |= commands(command, f"{name} ") if isinstance(command, click.Group) else {}
    return found


def page_of(name: str) -> str:
    """The page of a command; those of a group share one."""
    return DOCS[f"docs/commands/{name.split()[0]}.md"]


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_an_example_and_a_page(name: str) -> None:
    command = commands()[name]
    assert command.help
    assert "Example:" in command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    page = page_of(name)
    assert page.startswith(f"# probe {name.split()[0]}\n")
    examples = [line for block in blocks("sh", page.partition("## Example\n")[2]) for line in block.splitlines()]
    assert any(re.match(rf"probe {name}( |$)", line) for line in examples)
    assert re.search(rf"`probe {name}[ `]", DOCS["docs/commands/README.md"])


@pytest.mark.parametrize("name", main.commands)
def test_the_options_on_the_page_of_a_command_are_its_own(name: str) -> None:
    own = [command for full, command in commands().items() if full.split()[0] == name]
    known = {flag for command in own for option in command.params for flag in option.opts}
    named = re.findall(r"^- `(--[a-z-]+)", page_of(name).partition("## Options worth knowing")[2], re.MULTILINE)
    assert [flag for flag in named if flag not in known] == []


SHOWN = sorted({line for text in PAGES.values() for block in blocks("sh", text) for line in block.splitlines()})


@pytest.mark.parametrize("line", [line for line in SHOWN if "probe " in line])
def test_commands_in_the_documents_parse(line: str) -> None:
    arguments = re.findall(r"'[^']*'|\S+", line.split("probe ", 1)[-1])
    name, *rest = (argument.strip("'") for argument in arguments)
    command: click.Command = main.commands[name]
    if isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    whole = click.Context(main, **main.context_settings)  # -h is taken from it, and remembered by the command
    command.make_context(name, rest, parent=whole)


@pytest.mark.parametrize("page", PAGES)
def test_commands_named_in_a_sentence_exist(page: str) -> None:
    assert set(re.findall(r"`probe ([a-z]+)", PAGES[page])) <= set(main.commands)


SMALLER = {  # what the README's Python says, and what is quicker
    '"resnet50"': '"test_resnet"', "image_size=64": "image_size=32", "layer3.3": "layer3.0", '"digits"': '"few.npz"',
    "probe.layerwise(features)": "probe.layerwise(features, grid=probe.ProbeGrid(draws=100, c_grid=(0.1, 1.0)))",
    "epochs=2": "epochs=1, draws=100", "seed=0)": "seed=0, epochs=2)",
}  # fmt: skip


def test_the_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    for said, smaller in SMALLER.items():
        assert said in code
        code = code.replace(said, smaller)
    write_npz(tmp_path / "few.npz", shapes_data(60), np.repeat(("train", "val", "test"), (30, 15, 15)))
    monkeypatch.chdir(tmp_path)
    exec(code, {})


@pytest.mark.slow
def test_the_python_in_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = blocks("python")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results`, of probes of two taps of made-up features."""
    folder = tmp_path_factory.mktemp("documents")
    labels = np.arange(60) % 3
    noise = np.random.default_rng(0).normal(size=(2, 60, 3))
    splits = np.repeat(("train", "val", "test"), 20)
    np.savez(folder / "made.npz", early=noise[0], late=noise[1] + np.eye(3)[labels], labels=labels, splits=splits)
    run_features(
        [folder / "made.npz"], grid=ProbeGrid(c_grid=(1.0,), draws=100), out=folder / "results"
    ).record.rebuild()
    return folder


@pytest.mark.parametrize("page", [page for page, text in DOCS.items() if blocks("python", NOT_RUN.sub("", text))])
def test_the_python_in_the_documents_runs(page: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block, as a reader types them, beside a folder of results."""
    monkeypatch.chdir(results)
    exec("\n".join(blocks("python", NOT_RUN.sub("", DOCS[page]))), {})


@pytest.mark.parametrize("name", probe.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"`probe\.{name}\b", DOCS["docs/python.md"])


def test_the_map_names_every_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for init in (ROOT / "probe").glob("*/__init__.py"):
        assert f"probe/{init.parent.name}/" in text, init


def test_every_figure_of_the_gallery_is_described() -> None:
    gallery = (ROOT / "figures" / "gallery" / "README.md").read_text()
    for picture in (ROOT / "figures" / "gallery").glob("*.png"):
        assert picture.name in gallery


LINKED = [*PAGES, "figures/gallery/README.md", "ARCHITECTURE.md", "CHANGELOG.md"]


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), link
        assert not anchor or anchor in anchors(place.read_text()), link


def anchors(text: str) -> set[str]:
    """What headings are linked by: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_documents_is_linked() -> None:
    linked = {
        ((ROOT / page).parent / link.partition("#")[0]).resolve()
        for page, text in PAGES.items()
        for link in re.findall(r"\]\(([^)]+)\)", text)
    }
    assert [page for page in DOCS if (ROOT / page).resolve() not in linked] == []
