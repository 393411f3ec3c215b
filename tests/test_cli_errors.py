"""The command line: a bad request is answered by one line on stderr and an exit code, never by a traceback."""

import errno
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image

from probe.commands import main

ARCH = "test_resnet"  # timm's smallest


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, without this machine's downloads; the log goes back to where it went."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    log = logging.getLogger("probe")
    handlers, level = log.handlers, log.level
    yield
    log.handlers = handlers
    log.setLevel(level)


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


def make_files() -> None:
    """A small data set in the working folder, and many ways to get one wrong."""
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{i}.png")
    Path("bad.png").write_bytes(b"no image")
    Path("empty").mkdir()
    rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(20)]
    write_csv("good.csv", "file,label", rows)
    write_csv("image.csv", "file,label", [*rows, "bad.png,a"])
    write_csv("column.csv", "name,label", rows)
    write_csv("single.csv", "file,label", [row.replace("b", "a") for row in rows])
    write_csv("gone.csv", "file,label", [*rows, "gone.png,a"])
    torch.save({"a.weight": torch.ones(2)}, "misfit.pth")
    torch.save({"a.weight": Trap()}, "trap.pth")
    torch.save(timm.create_model(ARCH).state_dict(), "good.pth")
    Path("words.safetensors").write_bytes(b"no weights")
    Path("file").write_text("in the way")
    Path("damaged").mkdir()
    Path("damaged/files.sqlite").write_bytes(b"damaged" * 100)


def write_csv(name: str, head: str, rows: Sequence[str]) -> None:
    Path(name).write_text("\n".join([head, *rows]) + "\n")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="probe")


def extract(**changes: str | None) -> list[str]:
    return ["extract", *_options(**changes)]


def layerwise(**changes: str | None) -> list[str]:
    return ["layerwise", *_options(**changes)]


def _options(**changes: str | None) -> list[str]:
    """A request that would do, with some options changed or left out."""
    good = {"arch": ARCH, "weights": "scratch", "image_size": "32", "data": "good.csv"}
    given = {name: text for name, text in (good | changes).items() if text is not None}
    return [part for name, text in given.items() for part in (f"--{name.replace('_', '-')}", text)]


REFUSED: dict[str, tuple[list[str], str]] = {
    # networks
    "arch": (["taps", "resnet5"], "unknown arch 'resnet5'; did you mean 'resnet50'"),
    "arch of extract": (extract(arch="resnet5"), "unknown arch 'resnet5'; did you mean 'resnet50'"),
    "arch of layerwise": (layerwise(arch="resnet5"), "did you mean 'resnet50'.* See 'probe archs'"),
    "torchvision arch": (["taps", "torchvision:resnet5"], "did you mean 'torchvision:resnet50'"),
    "pattern": (["archs", "resnet5x"], "unknown arch 'resnet5x'; did you mean 'resnet50'"),
    "no cuts": (["taps", "crossvit_tiny_240"], "crossvit_tiny_240 has no place where all information passes"),
    "too small": (["taps", "inception_v3", "--image-size", "32"], "inception_v3 cannot be traced for images of 32 px"),
    "image size 0": (["taps", ARCH, "--image-size", "0"], "image_size is 0; it must be at least 1 pixel"),
    "hub out of reach": (["taps", "hf-hub:timm/nothing"], "hf-hub:timm/nothing are not on this machine and cannot be"),
    # weights
    "weights": (extract(weights="r160_in1"), "unknown weights of test_resnet: 'r160_in1'; did you mean 'r160_in1k'"),
    "pretrained out of reach": (extract(weights="pretrained"), f"weights of {ARCH} are not on this machine and cannot"),
    "pretrained, insisted on": (layerwise(weights="pretrained"), f"cannot be fetched.*--arch {ARCH} --weights FILE"),
    "weights not there": (extract(weights="gone.pth"), r"gone\.pth'"),
    "misfit": (extract(weights="misfit.pth"), r"'misfit\.pth' does not fit the network: only the network has conv1"),
    "trap": (extract(weights="trap.pth"), r"'trap\.pth' holds more than tensors and would run code"),
    "words for weights": (extract(weights="words.safetensors"), r"'words\.safetensors' is not a readable checkpoint"),
    # data
    "no data": (extract(data="nowhere"), "no data at 'nowhere': give 'digits'"),
    "no data for layerwise": (layerwise(data="nowhere"), "no data at 'nowhere': give 'digits'"),
    "empty folder": (extract(data="empty"), r"'empty' holds no images in root/class/\*"),
    "unknown form": (extract(data="file"), "cannot tell what data 'file' holds"),
    "column": (extract(data="column.csv"), "has no column 'file'; it has 'name', 'label'"),
    "one class": (extract(data="single.csv"), "single has only the class 'a'"),
    "image not there": (extract(data="gone.csv"), r"names 'gone\.png', which is not there"),
    "image damaged": (extract(data="image.csv"), r"'bad\.png' is not an image that Pillow can read"),
    "image damaged, layerwise": (layerwise(data="image.csv"), r"'bad\.png' is not an image that Pillow can read"),
    # settings
    "batch size": (extract(batch_size="0"), "batch_size is 0; it must be at least 1"),
    "workers": (layerwise(num_workers="-1"), "num_workers is -1; it must be at least 1"),
    "cls of a CNN": (extract(pool="cls"), "no class token at 'stem'.*pool by 'mean' or 'max'"),
    "cls+mean of a CNN": (layerwise(pool="cls+mean"), "no class token at 'stem'"),
    "device": (extract(device="abacus"), "no device 'abacus' here"),
    "cuda": (extract(device="cuda"), "no device 'cuda' here: .*'auto' takes what there is"),
    "negative strength": (layerwise(c_grid="-1,1"), "strengths must be positive"),
    "strength 0": (layerwise(c_grid="0"), "strengths must be positive"),
    "draws": (layerwise(draws="5"), "5 bootstrap draws are too few"),
    "delta": (layerwise(delta="1.5"), "delta is 1.5; it must lie between 0 and 1"),
    "cache in the way": (extract(cache="file"), "cannot write to the cache 'file'"),
    "tag of an arch": (["taps", "resnet50.nonsense"], "resnet50.nonsense"),
    "hub name": (["taps", "hf-hub:no such/name/at all"], "no such/name"),
    "patches of torchvision": (["taps", "torchvision:vit_b_32", "--image-size", "100"], "100"),
    "patches of timm": (["taps", "xcit_nano_12_p16_224", "--image-size", "100"], "100"),
    "blocks of timm": (["taps", "nest_tiny", "--image-size", "100"], "100"),
    "nothing published": (extract(arch="coatnet_0_224", weights="pretrained"), "no weights are published"),
    "nothing on the hub": (layerwise(arch="hf-hub:timm/nothing", weights=None), "hf-hub:timm/nothing|skipped"),
    "negative seed": (extract(seed="-1"), "seed"),
    "seed beyond 32 bits": (extract(seed="4294967296"), "seed"),
    "strength nan": (layerwise(c_grid="nan"), "strengths"),
    "no numbers": (extract(device="meta"), "meta"),
    "cache in the way of a file": (extract(weights="good.pth", cache="file"), "cannot write to the cache 'file'"),
    "folder of results in the way": (layerwise(out="file"), "file"),
}  # fmt: skip


def marks(case: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")] if case == "cuda" else []


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case)) for case in REFUSED])
def test_a_request_that_cannot_be_met(case: str) -> None:
    make_files()
    arguments, words = REFUSED[case]
    result = invoke(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    *before, last = result.stderr.splitlines()
    assert last.startswith("probe: ")
    assert re.search(words, last), last
    assert not any(line.startswith("probe: ") for line in before)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not Path("sprung").exists()
    assert not Path("results").exists()


@pytest.mark.parametrize(
    "arguments", [extract(cache="damaged"), [*layerwise(), "--arch", ARCH]], ids=["cache damaged", "same network twice"]
)
def test_a_request_that_may_be_met_or_not(arguments: list[str]) -> None:
    make_files()
    result = invoke(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 0 or result.stderr.splitlines()[-1].startswith("probe: ")


MISUSED: dict[str, tuple[list[str], str]] = {
    "command": (["layerwize"], "No such command 'layerwize'"),
    "option": (extract(colour="red"), "No such option.*--colour"),
    "level": (["taps", ARCH, "--level", "blok"], "'--level'.*'blok' is not one of 'layer', 'block', 'stage'"),
    "pool": (extract(pool="median"), "'--pool'.*'median' is not one of 'mean', 'max', 'cls', 'cls.mean'"),
    "dtype": (extract(dtype="float8"), "'--dtype'.*'float8' is not one of 'auto', 'float32', 'bfloat16', 'float16'"),
    "crop": (layerwise(crop="round"), "'--crop'.*'round' is not one of 'squash', 'center'"),
    "batch size": (extract(batch_size="many"), "'--batch-size'.*'many' is not a valid integer"),
    "image size": (extract(image_size="1.5"), "'--image-size'.*'1.5' is not a valid integer"),
    "strengths": (layerwise(c_grid="1,x"), "'--c-grid'.*'1,x' is not a list of numbers such as 0.01,1,100"),
    "no strengths": (layerwise(c_grid=""), "'--c-grid'.*'' is not a list of numbers"),
    "no seeds": (layerwise(seeds="0"), "--seeds: at least 1"),
    "no arch to extract": (extract(arch=None), "Missing option '--arch'"),
    "no arch to probe": (layerwise(arch=None), "Missing option '--arch'"),
    "no arch for taps": (["taps"], "Missing argument 'ARCH'"),
    "an argument too many": ([*extract(), "more"], "unexpected extra argument.*more"),
}


@pytest.mark.parametrize("case", MISUSED)
def test_a_request_that_cannot_be_read(case: str) -> None:
    arguments, words = MISUSED[case]
    result = invoke(*arguments)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert re.search(words, last), last
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_the_same_request_without_a_mistake_is_met() -> None:
    make_files()
    result = invoke(*extract())
    assert (result.exit_code, result.exception) == (0, None), result.stderr
    assert "stem" in result.stdout
    assert invoke(*extract(weights="good.pth")).exit_code == 0


def test_missing_pretrained_weights_are_skipped_loudly() -> None:
    make_files()
    result = invoke(*layerwise(weights=None, c_grid="1", draws="100"))
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith(f"SKIPPED {ARCH} with pretrained weights")]
    assert f"SKIPPED {ARCH}, pretrained" in result.stdout


def test_an_interruption_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.data.dataset", interrupt)
    result = invoke("extract", "--arch", ARCH)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("probe: stopped")


def test_results_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    make_files()
    monkeypatch.setattr("probe.records.record.write_signed", full)
    for arguments in (layerwise(c_grid="1", draws="100"), ["check", *layerwise(draws="100")[1:], "--epochs", "1"]):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert re.match(r"probe: cannot write 'results/.*': No space left on device; ", result.stderr.splitlines()[-1])
        assert "Traceback" not in result.stderr


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("probe.data.dataset", fail)
    assert isinstance(invoke("extract", "--arch", ARCH).exception, KeyError)


def test_names_with_line_breaks_make_one_line() -> None:
    make_files()
    write_csv("break.csv", "file,label", ['"two\nlines.png",a', "0.png,b"])
    result = invoke(*extract(data="break.csv"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_a_network_that_is_too_small_logs_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.addHandler(caplog.handler)
    try:
        result = invoke("taps", "inception_v3", "--image-size", "10")
    finally:
        log.removeHandler(caplog.handler)
    assert result.exit_code == 1
    assert "Traceback" not in caplog.text + result.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_a_network_is_built_without_a_warning(name: str) -> None:
    result = invoke("taps", f"torchvision:{name}", "--image-size", "96")
    assert result.exception is None, repr(result.exception)


# help


def commands(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {above.strip(): group}
    for name, command in group.commands.items():
        found |= commands(command, f"{above}{name} ") if isinstance(command, click.Group) else {above + name: command}
    return found


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", commands())
def test_help_ends_with_an_example(name: str, flag: str) -> None:
    result = invoke(*name.split(), flag)
    assert (result.exit_code, result.stderr) == (0, "")
    example = result.stdout.partition("Example:")[2].splitlines()[1]
    assert example.strip().startswith(f"probe {name}".strip())


@pytest.mark.parametrize("name", [name for name, command in commands().items() if not isinstance(command, click.Group)])
def test_every_option_has_help(name: str) -> None:
    options = [option for option in commands()[name].params if isinstance(option, click.Option)]
    assert options
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", [name for name, command in commands().items() if not isinstance(command, click.Group)])
def test_help_lists_every_option_once(name: str) -> None:
    context = click.Context(commands()[name], terminal_width=1000)
    listed = re.findall(r"^  (?:-h, )?(--[a-z-]+)", commands()[name].get_help(context), re.MULTILINE)
    options = [option for option in commands()[name].get_params(context) if isinstance(option, click.Option)]
    assert sorted(listed) == sorted(option.opts[-1] for option in options)


def headings(name: str) -> dict[str, str]:
    """The sections of the help of a command, by heading."""
    parts = re.split(r"^(\S.*):$", invoke(name, "--help").stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_help_lists_options_by_group_the_common_ones_first() -> None:
    sections = headings("layerwise")
    assert list(sections) == [
        "Options", "Images", "Network", "Features", "Probes", "Controls and training sizes", "Statistics",
        "Computation", "Output",
    ]  # fmt: skip
    where = {
        "--arch": "Options", "--weights": "Options", "--data": "Options", "--window": "Images", "--level": "Network",
        "--pool": "Features", "--folds": "Probes", "--control": "Controls and training sizes", "--delta": "Statistics",
        "--device": "Computation", "--cache": "Computation", "--out": "Output", "--json": "Output",
    }  # fmt: skip
    assert [name for name, heading in where.items() if f"  {name} " not in sections[heading]] == []
    assert {"Training", "Strategy", "Head"} < set(headings("finetune"))
    assert "Training" not in sections
