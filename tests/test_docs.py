"""The documents say what is there."""

import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from helpers import shapes_data, write_npz

from probe.commands import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    """Every command by its full name, those of groups too."""
    found = {above + name: command for name, command in group.commands.items()}
    for name, command in group.commands.items():
        found |= commands(command, f"{name} ") if isinstance(command, click.Group) else {}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_an_example_and_a_line(name: str) -> None:
    command = commands()[name]
    assert command.help
    assert "Example:" in command.help
    assert re.search(rf"`probe {name}[ `]", README)
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if "probe " in line])
def test_commands_in_the_readme_parse(line: str) -> None:
    arguments = re.findall(r"'[^']*'|\S+", line.split("probe ", 1)[-1])
    name, *rest = (argument.strip("'") for argument in arguments)
    whole = click.Context(main, **main.context_settings)  # -h is taken from it, and remembered by the command
    main.commands[name].make_context(name, rest, parent=whole)


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


def test_the_map_names_every_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for init in (ROOT / "probe").glob("*/__init__.py"):
        assert f"probe/{init.parent.name}/" in text, init


def test_gallery_and_documents_are_in_step() -> None:
    gallery = (ROOT / "figures" / "gallery" / "README.md").read_text()
    for picture in (ROOT / "figures" / "gallery").glob("*.png"):
        assert picture.name in gallery
    for document, place in ((README, ROOT), (gallery, ROOT / "figures" / "gallery")):
        for link in re.findall(r"\]\(([^)#]+)\)", document):
            assert (place / link).exists(), link
