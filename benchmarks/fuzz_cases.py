"""Broken input at random, of every kind that `benchmarks/fuzz.py` knows."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.testing import CliRunner
from PIL import Image

from probe.commands import main

ARCH = "test_resnet"
WORDS = [
    "", " ", "a", "b", "|", "a|b", "a|a", ",", '"', "0", "1", "-1", "nan", "inf", "1e999", "\u00e9", "\u4e2d", "\0",
    "\n", "../x", "/", ".", "train", "test", "val", "dev", "x" * 300, "\ufeff", "%s", "{}", "<b>", "None",
]  # fmt: skip
OPTIONS: dict[str, list[str]] = {
    "--level": ["layer", "block", "stage", "x"], "--image-size": ["32", "64", "1", "0", "-3", "x", "31", "99999999999"],
    "--crop": ["center", "squash", "x"], "--modules": ["", "conv1", "conv1,layer1,layer2", ",,", "stem"],
    "--pool": ["mean", "max", "cls", "cls+mean", "x"], "--batch-size": ["1", "7", "64", "0", "-1", "x", "10000"],
    "--num-workers": ["1", "3", "0", "-2"], "--device": ["cpu", "cuda:99", "meta", "", "x", "cpu:0", "CPU"],
    "--dtype": ["float32", "bfloat16", "float16", "x"], "--seed": ["0", "1", "-1", "4294967295", "4294967296", "x"],
    "--weights": ["scratch", "pretrained", "x", "gone.pth", "bytes.pth", "bytes.safetensors", ""],
    "--arch": [ARCH, "", "resnet", "torchvision:x", "hf-hub:", "hf-hub:x", ":", "*", "test_vit", "../x"],
    "--data": ["good.csv", "digits", "", ".", "/", "/dev/null", "gone", "bytes.csv", "bytes.npz", "tree"],
    "--cache": ["cache", "good.csv", "", "bytes.npz/x", "/proc/x", "x" * 300],
}  # fmt: skip
PROBES = {"--c-grid": ["1", "0.1,1", "", "x", "nan", "-1", "1e-300,1e300"], "--draws": ["100", "1", "x"],
          "--delta": ["0.01", "0", "nan", "1"], "--seeds": ["1", "2", "0", "-1"],
          "--out": ["out", "good.csv", ""], "--probe": ["linear", "mlp", "knn", "ncm", "x", ""],
          "--metric": ["auroc", "accuracy", "ece", "quadratic_kappa", "recall", "x", ""],
          "--folds": ["2", "5", "1", "-1", "999"], "--k-grid": ["1", "5,3", "9999", "0", "1.5", ""],
          "--n-train": ["10", "50%", "100%", "0", "1e9", "101%", "x", "%"], "--subsets": ["1", "2", "0"],
          "--control": ["permuted", "noise", "majority", "x"], "--permutations": ["1", "0"],
          "--interval": ["bca", "percentile", "x"], "--mlp-hidden": ["1", "4", "0", "x"], "--mlp-seeds": ["1", "0"],
          "--mlp-dropout": ["0", "0.5,0.1", "1", "-1", "nan"],
          "--mlp-weight-decay": ["0", "1e9", "-1", "nan"]}  # fmt: skip
SWITCHES = ["--ordinal", "--transferability", "--json"]

FORMS = [
    ("RGB", "JPEG"), ("CMYK", "JPEG"), ("1", "TIFF"), ("P", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("F", "TIFF"),
    ("P", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP"), ("RGB", "PPM"), ("L", "JPEG2000"), ("RGB", "TGA"), ("RGBA", "ICO"),
]  # fmt: skip

WHOLE = ["0", "1", "2", "-1", "x", "", "1.5"]
REAL = ["0", "0.5", "1", "-1", "nan", "inf", "x", ""]
PLACES = ["out", "good.csv", "", "bytes.npz", "bytes.safetensors", "tree", "gone", "/proc/x"]
NET = {"--arch": ARCH, "--weights": "scratch", "--image-size": "32", "--cache": "cache"}
READ = NET | {"--data": "good.csv", "--out": "out"}
TRAINED = READ | {"--epochs": "1", "--batch-size": "8", "--draws": "100"}
COMMANDS: dict[str, dict[str, str]] = {
    "taps": {"": ARCH, "--image-size": "32"}, "data": {"": "good.csv"}, "extract": {**NET, "--data": "good.csv"},
    "layerwise": READ | {"--draws": "100"}, "depth": READ | {"--k": "2"}, "similarity": READ | {"--draws": "0"},
    "embed": READ | {"--method": "pca"}, "attribute": READ | {"--images": "2"},
    "cost": {"--arch": ARCH, "--image-size": "32", "--out": "out", "--repeats": "1"},
    "truncate": {"--arch": ARCH, "--weights": "scratch", "--at": "1", "--classes": "2", "--out": "m.safetensors"},
    "finetune": TRAINED | {"--at": "1"}, "pretrain": TRAINED, "check": TRAINED,
    "figure": {"": "all", "--results": "out", "--out": "out"},
}  # fmt: skip

Rng = np.random.Generator


def invoke(arguments: list[str]) -> Any:
    """The command, in this process."""
    return CliRunner().invoke(main, arguments, prog_name="probe")


def pick(rng: Rng, options: Any) -> Any:
    """One of some."""
    return options[int(rng.integers(len(options)))]


def mutated(rng: Rng, data: bytes) -> bytes:
    """Bytes flipped, cut, repeated or inserted."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(changed) + 1))
        kind = int(rng.integers(4))
        if kind == 0 and at < len(changed):
            changed[at] = int(rng.integers(256))
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def picture(rng: Rng, mode: str = "RGB", form: str = "PNG") -> bytes:
    """A small image file."""
    size = tuple(int(side) for side in rng.integers(1, 20, 2))
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    out = BytesIO()
    image.save(out, form)
    return out.getvalue()


def good(rng: Rng) -> None:
    """A data set that will do, and files of nothing, in the working folder."""
    lines = ["file,label"]
    for i in range(12):
        Path(f"{i}.png").write_bytes(picture(rng))
        lines.append(f"{i}.png,{'ab'[i % 2]}")
        for part in ("tree/a", "tree/b"):
            Path(part).mkdir(parents=True, exist_ok=True)
            Path(part, f"{i}.png").write_bytes(picture(rng))
    Path("good.csv").write_text("\n".join(lines) + "\n")
    for name in ("bytes.csv", "bytes.npz", "bytes.pth", "bytes.safetensors"):
        Path(name).write_bytes(rng.bytes(100))


def request(command: str = "extract", **changed: str) -> list[str]:
    """Arguments that will do, with some changed."""
    given = {"arch": ARCH, "weights": "scratch", "image_size": "32", "data": "good.csv", "cache": "cache"} | changed
    return [command, *(part for name, text in given.items() for part in (f"--{name.replace('_', '-')}", text))]


def manifest(rng: Rng) -> list[str]:
    """A table whose columns and cells are now and then not what they should be."""
    columns = [
        name
        for name, odds in (("file", 0.97), ("label", 0.8), ("labels", 0.25), ("group", 0.4), ("split", 0.2))
        if rng.random() < odds
    ]
    strange = float(pick(rng, [0, 0, 0.01, 0.3]))
    usual = {
        "label": ["a", "b"],
        "labels": ["a", "b", "a|b", ""],
        "group": [*"pqrstuvw"],
        "split": ["train", "train", "val", "test"],
    }

    def cell(name: str, row: int) -> str:
        if rng.random() < strange:
            return str(pick(rng, WORDS))
        return f"{row % 12}.png" if name == "file" else str(pick(rng, usual[name]))

    rows = [",".join(cell(name, row) for name in columns) for row in range(rng.integers(0, 40))]
    text = "\n".join([",".join(columns), *rows]).encode(errors="replace")
    Path("made.csv").write_bytes(mutated(rng, text) if rng.random() < 0.3 else text)
    return request(data="made.csv")


def folder(rng: Rng) -> list[str]:
    """Classes, splits, empty and hidden folders, loops, files that are none."""
    root, strange = Path("root"), float(pick(rng, [0, 0.1, 0.5]))
    root.mkdir()
    splits = pick(rng, [[""], ["train", "val", "test"], ["train", "test"]])
    for number in range(rng.integers(0, 40)):
        parts = [pick(rng, splits), pick(rng, "ab")]
        if rng.random() < strange:
            parts = [
                pick(rng, ["a", "b", "train", ".hidden", "\u00e9", "A", "4.png"]) for _ in range(rng.integers(1, 4))
            ]
        place = root.joinpath(*parts)
        if any(parent.is_file() for parent in (place, *place.parents)):
            continue
        place.mkdir(parents=True, exist_ok=True)
        odd = rng.random() < strange
        file = place / f"{number}{pick(rng, ['.txt', '.jpg', '', '.PNG']) if odd else '.png'}"
        if odd and rng.random() < 0.3:
            file.symlink_to(pick(rng, ["gone", ".", "..", "/dev/null"]))
        else:
            file.write_bytes(mutated(rng, picture(rng)) if odd and rng.random() < 0.2 else picture(rng))
    return request(data="root")


def archive(rng: Rng) -> list[str]:
    """Arrays of all shapes and types under MedMNIST's names, or bytes at random in a file of good ones."""
    arrays: dict[str, Any] = {}
    strange, deep, wide = float(pick(rng, [0, 0, 0.1, 0.4])), pick(rng, [(), (3,)]), int(pick(rng, [1, 1, 3]))
    for split in ("train", "val", "test"):
        n = int(rng.integers(0 if strange else 5, 12))
        images, labels = np.zeros((n, 8, 8, *deep), "u1"), rng.integers(0, 2, (n, wide))
        if rng.random() < strange:
            images = np.zeros(pick(rng, [(n, 8, 8, 4), (n, 0, 8), (n,), (), (n, 8, 8, 8, 3), (n + 1, 8, 8)]), "u1")
        if rng.random() < strange:
            images = images.astype(pick(rng, ["u2", "f4", "?", "U3", "M8[s]", "O"]))
        if rng.random() < strange:
            labels = rng.integers(pick(rng, [0, -5]), pick(rng, [3, 2**40]), (n, wide)).astype(
                pick(rng, ["i8", "u1", "f8", "?", "U2"])
            )
        arrays |= {} if rng.random() < strange / 2 else {f"{split}_images": images, f"{split}_labels": labels}
    np.savez("made.npz", **arrays)
    if rng.random() < 0.3:
        Path("made.npz").write_bytes(mutated(rng, Path("made.npz").read_bytes()))
    return request(data="made.npz")


def image(rng: Rng) -> list[str]:
    """Every mode and form, and bytes at random in them."""
    mode, form = pick(rng, FORMS)
    try:
        data = picture(rng, "I" if mode == "I;16" else mode, form)
    except OSError:  # a form this Pillow cannot write
        data = picture(rng)
    Path("3.png").write_bytes(mutated(rng, data) if rng.random() < 0.7 else data)
    return request()


def options(rng: Rng) -> list[str]:
    """Options at random, most of them wrong, on every command."""
    command = pick(rng, ["extract", "extract", "extract", "layerwise", "taps", "archs", "cache"])
    if command == "cache":
        action = pick(rng, ["ls", "verify", "rm", "size", "x", ""])
        extra = [
            ["--all"],
            ["--older-than", pick(rng, ["0", "1e9", "-1", "x", "nan", "inf", "1e300"])],
            [pick(rng, WORDS)],
            ["--json"],
            [],
        ]
        return ["cache", action, *pick(rng, extra), "--cache", pick(rng, OPTIONS["--cache"])]
    if command in ("taps", "archs"):
        return [command, pick(rng, [*OPTIONS["--arch"], "-h", "--json"])]
    known = {**OPTIONS, **(PROBES if command == "layerwise" else {})}
    if command == "layerwise":
        known.pop("--seed")
    changed = {name: pick(rng, known[name]) for name in rng.choice(list(known), int(rng.integers(1, 4)), replace=False)}
    quick = {"draws": "100", "c_grid": "1", "out": "out"} if command == "layerwise" else {}
    return request(command, **{**quick, **{name[2:].replace("-", "_"): text for name, text in changed.items()}})


def cache(rng: Rng) -> list[str]:
    """A warm run, and the commands on a cache, after damage to any of its files."""
    invoke(request())
    files = sorted(path for path in Path("cache").rglob("*") if path.is_file())
    for _ in range(rng.integers(1, 3)):
        path = pick(rng, files)
        kind = rng.random()
        if kind < 0.1:
            path.unlink(missing_ok=True)
        elif kind < 0.2 and path.exists():
            path.unlink()
            path.mkdir()
        elif path.is_file():
            path.write_bytes(mutated(rng, path.read_bytes()))
    command = pick(rng, [["verify"], ["ls"], ["rm", "--all"], ["size"], None, None, None, None])
    return request() if command is None else ["cache", *command, "--cache", "cache"]


def features(rng: Rng) -> list[str]:
    """Arrays made elsewhere, in a folder or an archive, some of them damaged or of another shape."""
    rows, task = int(rng.integers(0 if rng.random() < 0.1 else 30, 60)), pick(rng, ["label", "labels", "flags"])
    arrays: dict[str, np.ndarray] = {}
    for tap in [pick(rng, ["a", "b2", "b10", "c.0", "x y"]) for _ in range(rng.integers(1, 4))]:
        kind = pick(rng, [np.float32, np.float32, np.float64, np.int8, np.float16])
        x = rng.normal(size=(rows, int(rng.integers(1, 6)))).astype(kind)
        if x.size and kind != np.int8 and rng.random() < 0.1:
            x.flat[int(rng.integers(x.size))] = pick(rng, [np.nan, np.inf, 1e4])
        strange = pick(rng, [x[:, :1], np.zeros_like(x), x[:-3], x[0] if rows else x, x[:, :0]])
        arrays[tap] = strange if rng.random() < 0.15 else x
    labels = [pick(rng, ["a", "b", "c"]) for _ in range(rows)]
    if rng.random() < 0.5:
        codes = np.unique(labels, return_inverse=True)[1] if task == "label" else rng.integers(-1, 2, (rows, 3))
        labelled: dict[str, Any] = {**arrays, "labels": codes}
        np.savez("made.npz", **labelled)
        if rng.random() < 0.3:
            Path("made.npz").write_bytes(mutated(rng, Path("made.npz").read_bytes()))
        place = "made.npz"
    else:
        Path("made").mkdir()
        for tap, x in arrays.items():
            np.save(f"made/{tap}.npy", x)
            if rng.random() < 0.1:
                Path(f"made/{tap}.npy").write_bytes(mutated(rng, Path(f"made/{tap}.npy").read_bytes()))
        head = pick(rng, [task, "label", "labels", "label,split", "label,group", "id,label", "x"])
        cells = [",".join([name, *(pick(rng, WORDS[:14]) for _ in head.split(",")[1:])]) for name in labels]
        Path("made/rows.csv").write_text("\n".join([head, *cells]))
        place = "made"
    changed = rng.choice(list(PROBES), int(rng.integers(0, 4)), replace=False)
    given = {"--draws": "100", "--c-grid": "1", "--out": "out", **{name: pick(rng, PROBES[name]) for name in changed}}
    extra = [pick(rng, SWITCHES)] if rng.random() < 0.3 else []
    return ["layerwise", "--features", place, *(part for pair in given.items() for part in pair), *extra]


def command(rng: Rng) -> list[str]:
    """Any command on a small network, with one to three of its options set to anything."""
    name = pick(rng, list(COMMANDS))
    chosen = [option for option in main.commands[name].params if isinstance(option, click.Option)]
    changed = [pick(rng, chosen) for _ in range(rng.integers(1, 4))]
    arguments = [name]
    for text, value in {**COMMANDS[name], **{option.opts[0]: _value(rng, option) for option in changed}}.items():
        arguments += [value] if text == "" else [text] if value is None else [text, value]
    return arguments


def _value(rng: Rng, option: click.Option) -> str | None:
    """One that suits the type of an option, or does not; None for a switch."""
    if option.is_flag:
        return None
    kinds = {click.IntRange: WHOLE, type(click.INT): WHOLE, type(click.FLOAT): REAL, click.Path: PLACES}
    if option.opts[0] in OPTIONS | PROBES:
        return str(pick(rng, (OPTIONS | PROBES)[option.opts[0]]))
    if isinstance(option.type, click.Choice):
        return str(pick(rng, [*option.type.choices, "x"]))
    return str(pick(rng, kinds.get(type(option.type), [*WORDS, "stem", "layer1.0", "1,2", "0.5,x"])))


KINDS: dict[str, Callable[[Rng], list[str]]] = {
    "manifest": manifest, "folder": folder, "archive": archive, "image": image, "options": options, "cache": cache,
    "features": features, "command": command,
}  # fmt: skip
