"""Smoke test of the installed package: run away from the sources."""

import json
import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

here = Path.cwd()
os.environ["PROBE_CACHE"] = str(here / "cache")
command = Path(sys.executable).with_name("probe")

import probe  # noqa: E402

assert "torch" not in sys.modules, "import probe must stay light"
import analysis.attribution  # noqa: E402
import analysis.embedding  # noqa: E402
import analysis.similarity  # noqa: E402, F401

assert "site-packages" in str(probe.__file__), probe.__file__
packed = {str(file) for file in files("truncated-probe") or []}
assert "probe/py.typed" in packed
assert not any("gallery" in name or name.startswith("tests") for name in packed)

result = subprocess.run(
    [command, "layerwise", "--arch", "resnet10t", "--image-size", "32", "--level", "stage", "--draws", "100", "--json"],
    capture_output=True, text=True, check=True,
)  # fmt: skip
answer = json.loads(result.stdout)
assert [arm["weights"] for arm in answer["arms"]] in (["scratch"], ["pretrained", "scratch"])
assert all(Path(file).stat().st_size for file in answer["files"])
found = subprocess.run([command, "data", "digits", "--json"], capture_output=True, text=True, check=True)
assert json.loads(found.stdout)["images"] == 1797
print("smoke test passed:", answer["arms"][0]["best"]["tap"])
