"""The design as tests: imports point one way, help is fast, the public names stand, nothing loads early."""

import ast
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

import probe
from probe.backbones.taps import AXES

ROOT = Path(__file__).parents[1]
ORDER = [  # a folder imports from those before it
    ["base"],
    ["records", "settings"],
    ["metrics"],
    ["tasks"],
    ["data", "backbones"],
    ["cache"],
    ["features"],
    ["scoring"],
    ["analysis"],
    ["audit", "probes"],
    ["truncation"],
    ["finetuning"],
    ["studies"],
    ["figures"],
    ["commands"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# These two know neither networks nor data sets.
READS = {"analysis": {"base", "settings", "scoring"}, "figures": {"records"}}
SOURCES = sorted(path for folder in ("probe", "analysis", "figures") for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of what a file imports from the project, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("probe", "analysis", "figures", "cli")}


def folder_of(name: str) -> str:
    """The folder of a dotted name; "probe" itself has none."""
    package, *rest = name.split(".")
    return rest[0] if package == "probe" and rest else package


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = folder_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for folder in {folder_of(name) for name in imported(path)} - {own, "probe"}:
        if own in RANK:
            assert folder in READS.get(own, RANK), f"{own} imports {folder}"
            assert RANK[folder] < RANK[own], f"{own} imports {folder}"


WORDS = {"binary", "multiclass", "multilabel"}  # for tasks, in rows and files


def asks_for_a_task(node: ast.AST) -> bool:
    """Whether code names a task in words, or looks at how many axes labels have."""
    if isinstance(node, ast.Attribute) and node.attr == "ndim":
        return "label" in ast.unparse(node.value)
    return isinstance(node, ast.Constant) and node.value in WORDS


@pytest.mark.parametrize("path", [*SOURCES, *(ROOT / "benchmarks").glob("*.py")], ids=lambda path: path.stem)
def test_nothing_but_a_task_asks_what_kind_of_labels_there_are(path: Path) -> None:
    if path.parent != ROOT / "probe" / "tasks":
        assert [node.lineno for node in ast.walk(ast.parse(path.read_text())) if asks_for_a_task(node)] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "code", ["data.labels.ndim == 2", "task == 'multilabel'", "task in ('binary', 'x')", "label.ndim"]
)
def test_code_that_asks_is_seen(code: str) -> None:
    assert any(map(asks_for_a_task, ast.walk(ast.parse(code))))


def test_one_file_knows_what_the_axes_of_a_layout_are() -> None:
    """A layout that is added needs one entry there, and nothing elsewhere."""
    home = ROOT / "probe" / "backbones" / "taps.py"
    for path in SOURCES:
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert path == home or not words & set(AXES), f"{path} decides by the name of a layout"


def test_every_folder_has_a_rank() -> None:
    folders = {path.name for path in (ROOT / "probe").iterdir() if (path / "__init__.py").is_file()}
    assert folders | {"analysis", "figures"} == set(RANK)


def test_docstrings_name_what_is_there() -> None:
    """Names with dots in them, of our own packages, in backticks."""
    found = {name for path in SOURCES for name in re.findall(r"`((?:\w+\.){2,}\w+)`", path.read_text())}
    ours = sorted(name for name in found if name.split(".")[0] in RANK and not name.endswith((".csv", ".json")))
    assert "records.stored_tables.similarity_table" in ours
    for name in ours:
        resolve_name(name if name.startswith(("analysis", "figures")) else f"probe.{name}")  # which raises


def test_public_names_stand_and_none_is_a_module() -> None:
    assert set(probe.__all__) == {
        "Attribution", "Backbone", "Batches", "Classes", "Comparison", "Controls", "Dataset", "Embedding", "Extraction",
        "Features", "Head", "Labels", "LinearProbe", "MLPProbe", "Network", "NetworkSpec", "ProbeError", "ProbeGrid",
        "Reading", "Task", "Training", "Tuning",
        "attribute", "backbone", "check", "dataset", "embed", "extract", "finetune", "layerwise", "load",
        "make_features", "read_features", "save", "similarity", "truncate",
    }  # fmt: skip
    for name in probe.__all__:
        assert getattr(probe, name) is getattr(probe, name)  # also at the second look
        assert name not in RANK
    with pytest.raises(AttributeError, match="no attribute 'banana'"):
        _ = probe.banana


@pytest.mark.parametrize(
    "code",
    [
        "import probe",
        "import probe.commands",
        "from probe import NetworkSpec",
        "from probe.commands import main; main(['layerwise', '--help'])",
    ],
)
def test_nothing_heavy_loads_before_it_is_used(code: str) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'matplotlib', 'pandas', 'numpy'}"
    check = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_answers_at_once() -> None:
    """The lightness above is what is promised; this only catches a forgotten import of seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "probe", "--help"], check=True, capture_output=True, cwd=ROOT)
    assert time.perf_counter() - start < 5


def test_the_wheel_is_told_of_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if path.name == "__init__.py"}
    assert set(listed) == found
