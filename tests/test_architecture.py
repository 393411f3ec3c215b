"""The design as tests: imports point one way, help is fast, the public names stand, nothing loads early."""

import ast
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import probe

ROOT = Path(__file__).parents[1]
ORDER = [  # a module imports from those before it, or from its own package
    ["errors", "shapes"],
    ["names", "runtime", "settings", "tables"],
    ["data", "backbones"],
    ["cost", "pooling"],
    ["readers"],
    ["extraction"],
    ["cache"],
    ["recipes"],
    ["metrics", "statistics", "results", "transferability"],
    ["audit", "probes"],
    ["comparison", "recommendation", "differences", "prediction_depth", "truncation"],
    ["finetuning", "searching"],
    ["cells", "study"],
    ["checking", "report"],
    ["demonstration"],
    ["commands"],  # the only place where probe, analysis and figures meet
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
SOURCES = sorted(path for folder in ("probe", "analysis", "figures") for path in (ROOT / folder).rglob("*.py"))
ANALYSIS_READS = {"errors", "shapes", "names", "statistics", "cache", "results"}


def imported(path: Path) -> set[str]:
    """Dotted names of what a file imports from the project, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("probe", "analysis", "figures", "cli")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    for name in imported(path):
        parts = name.split(".")
        if package == "probe":
            assert parts[0] == "probe" or rest[0] == "commands", f"{path} imports {name}"
            if parts[0] == "probe" and len(parts) > 1 and parts[1] in RANK and rest[0] != "__init__":
                own = parts[1] == rest[0]
                assert own or RANK[parts[1]] < RANK[rest[0]], f"{rest[0]} imports {parts[1]}"
        elif package == "analysis" and parts[0] == "probe" and len(parts) > 1:
            assert parts[1] in ANALYSIS_READS, f"{path} imports {name}"
        elif package == "figures":
            assert parts[0] == "figures", f"{path} imports {name}"


def test_every_module_has_a_rank() -> None:
    modules = {path.stem for path in (ROOT / "probe").iterdir() if path.stem not in ("__init__", "__pycache__", "py")}
    assert modules == set(RANK)


def test_public_names_stand_and_none_is_a_module() -> None:
    assert set(probe.__all__) == {
        "Backbone", "Checks", "Dataset", "Extraction", "Features", "LinearProbe", "MLPProbe", "ProbeError", "ProbeGrid",
        "Training", "Tuning",
        "backbone", "dataset", "extract", "finetune", "layerwise", "load", "make_features",
        "read_features", "save", "truncate",
    }  # fmt: skip
    for name in probe.__all__:
        assert getattr(probe, name) is getattr(probe, name)  # also at the second look
        assert name not in RANK
    with pytest.raises(AttributeError, match="no attribute 'banana'"):
        _ = probe.banana


@pytest.mark.parametrize("code", ["import probe", "import cli", "import cli; cli.main(['layerwise', '--help'])"])
def test_nothing_heavy_loads_before_it_is_used(code: str) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'matplotlib', 'pandas', 'numpy'}"
    check = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_answers_at_once() -> None:
    """The lightness above is what is promised; this only catches a forgotten import of seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cli", "--help"], check=True, capture_output=True, cwd=ROOT)
    assert time.perf_counter() - start < 5


def test_modules_stay_small() -> None:
    assert {path.name: n for path in SOURCES if (n := len(path.read_text().splitlines())) > 250} == {}


def test_the_wheel_is_told_of_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if path.name == "__init__.py"}
    assert set(listed) == found
