"""Cell crops cut from BCCD, a detection data set of blood smears: three cell types, and where the cell is in each crop.

Command: `python benchmarks/bccd_crops.py BCCD_FOLDER OUT_FOLDER` (`--small`: of three images made up); the folder is
the one that holds Annotations, ImageSets and JPEGImages of https://github.com/Shenggan/BCCD_Dataset (MIT licence,
copyright 2017 shenggan). Of every image at most one cell of each type, drawn at random, in a square of twice its longer
side that lies anywhere around it (were the cell always in the middle, any map that peaks there would find it), within
the image, resized to 112 pixels. Writes `labels.csv` (file, label, split, group: the image) and `boxes.csv` (file, x0,
y0, x1, y1: the cell in the crop). What one should see: `Platelets 201, RBC 349, WBC 358`; two boxes without area are
skipped. Other cells of the same type may lie outside of the box, of red cells nearly always.
"""

import csv
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from measuring import new_parser, parse
from PIL import Image

SIDE = 112  # pixels of a crop
AROUND = 2.0  # side of a crop in longer sides of the box
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Box = tuple[int, int, int, int]


def boxes_of(annotation: Path) -> list[tuple[str, Box]]:
    """Type, left, top, right and bottom of every cell; Pascal VOC counts from 1 and its last pixel is inside."""
    found = []
    for thing in ET.parse(annotation).getroot().iter("object"):
        left, top, right, bottom = (int(thing.findtext(f"bndbox/{corner}", "")) for corner in CORNERS)
        if right > left and bottom > top:
            found.append((thing.findtext("name", ""), (max(0, left - 1), max(0, top - 1), right, bottom)))
        else:
            print(f"{annotation.name}: skipped a box without area")
    return found


def window(box: Box, size: tuple[int, int], generator: np.random.Generator) -> Box:
    """A square around a box, as far from its middle as it may be, within an image of `size`."""
    left, top, right, bottom = box
    side = min(round(AROUND * max(right - left, bottom - top)), *size)
    starts = []
    for low, high, length in ((left, right, size[0]), (top, bottom, size[1])):
        start = generator.integers(min(low, high - side), max(low, high - side) + 1)
        starts.append(int(np.clip(start, 0, length - side)))
    return starts[0], starts[1], starts[0] + side, starts[1] + side


def write_crops(source: Path, out: Path) -> None:
    """Write the crops and the two tables."""
    generator = np.random.default_rng(0)
    (out / "crops").mkdir(parents=True, exist_ok=True)
    labels, boxes = [], []
    for split in ("train", "val", "test"):
        for name in (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            cells = boxes_of(source / "Annotations" / f"{name}.xml")
            with Image.open(source / "JPEGImages" / f"{name}.jpg") as opened:
                image = opened.convert("RGB")
            for kind in sorted({kind for kind, _ in cells}):
                mine = [box for each, box in cells if each == kind]
                box = mine[generator.integers(len(mine))]
                left, top, right, bottom = window(box, image.size, generator)
                file = f"crops/{name}_{kind}.png"
                image.crop((left, top, right, bottom)).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out / file)
                scale = SIDE / (right - left)
                x0, y0, x1, y1 = (
                    round(edge * scale) for edge in (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
                )
                labels.append((file, kind, split, name))
                boxes.append((file, max(0, x0), max(0, y0), min(SIDE, x1), min(SIDE, y1)))
    for table, head, rows in (("labels", "file,label,split,group", labels), ("boxes", "file,x0,y0,x1,y1", boxes)):
        with (out / f"{table}.csv").open("w", newline="") as opened_table:
            writer = csv.writer(opened_table, lineterminator="\n")
            writer.writerows([head.split(","), *rows])
    kinds = [kind for _, kind, _, _ in labels]
    print(", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds))))


def make_up(folder: Path) -> Path:
    """A folder in the form of BCCD, with one image of two cells per split."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for split in ("train", "val", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}\n")
        Image.new("RGB", (320, 240), "pink").save(folder / "JPEGImages" / f"{split}.jpg")
        cells = [("RBC", (20, 30, 70, 80)), ("WBC", (150, 100, 250, 190))]
        objects = [
            f"<object><name>{kind}</name><bndbox>"
            + "".join(f"<{corner}>{edge}</{corner}>" for corner, edge in zip(CORNERS, box, strict=True))
            + "</bndbox></object>"
            for kind, box in cells
        ]
        (folder / "Annotations" / f"{split}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    return folder


def main() -> None:
    """Cut the crops of the given folder, or of one that is made up."""
    parser = new_parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="BCCD_FOLDER OUT_FOLDER")
    options = parse(parser)
    if options.small:
        with tempfile.TemporaryDirectory() as folder:
            write_crops(make_up(Path(folder) / "made"), Path(folder) / "out")
    elif len(options.folders) == 2:
        write_crops(*options.folders)
    else:
        parser.error("two folders are needed: the one of BCCD, and the one to write to")


if __name__ == "__main__":
    main()
