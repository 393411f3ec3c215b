"""Pixels: every mode, depth and orientation gives the values computed by hand, and nothing is clipped unsaid."""

import io
import logging
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, features
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from probe.base.errors import ProbeError
from probe.data.image_sources import ImageFiles
from probe.data.intensity import limits, to_bytes
from probe.data.pictures import read_picture
from probe.settings import Reading

EXAMPLES = settings(max_examples=50, deadline=None, derandomize=True, database=None)
RAMP = np.array([[0, 1000, 2000], [3000, 4000, 4095]])


def pixels(file: Path, window: str = "auto") -> NDArray[np.uint8]:
    image = ImageFiles([file], Reading(window=window)).load(0)
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(file: Path, window: str = "auto") -> list[list[int]]:
    shown = pixels(file, window)
    assert (shown[..., :1] == shown).all()
    return shown[..., 0].tolist()


# the rule


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("auto", [[0, 62, 125], [187, 249, 255]]),  # 255 v / 4095
        ("range", [[0, 62, 125], [187, 249, 255]]),
        ("0,65535", [[0, 4, 8], [12, 16, 16]]),  # v / 257
        ("1000,3000", [[0, 0, 128], [255, 255, 255]]),  # 127.5 goes to the even neighbour
        ("-1000,4000", [[51, 102, 153], [204, 255, 255]]),
    ],
)
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("uint16", "png"), ("uint16", "tiff"), (">u2", "tiff"), ("int16", "tiff"), ("int32", "tiff"), ("float32", "tiff")],
)
def test_deep_grey_is_scaled_by_the_rule(
    tmp_path: Path, kind: str, suffix: str, window: str, expected: list[list[int]]
) -> None:
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(RAMP.astype(kind)).save(file)
    assert grey(file, window) == expected


def test_percentiles_leave_out_one_in_two_hundred_on_either_side(tmp_path: Path) -> None:
    values = np.arange(1001, dtype=np.uint16)[None]
    values[0, -1] = 60_000
    Image.fromarray(values).save(tmp_path / "x.png")
    assert grey(tmp_path / "x.png", "range")[0][-2] == 4  # 999 of 60,000
    shown = grey(tmp_path / "x.png", "percentile")[0]  # 5 to 995
    assert (shown[5], shown[6], shown[500], shown[995], shown[1000]) == (0, 0, 128, 255, 255)


@given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=20))
@EXAMPLES
def test_own_range_keeps_order_and_clips_nothing(values: list[int]) -> None:
    array = np.array(values)
    shown = to_bytes(array, *limits(array, Reading(window="range"))).astype(int)
    order = np.argsort(array)
    assert (np.diff(shown[order]) >= 0).all()
    if len(set(values)) > 1:
        exact = (array - array.min()) / (array.max() - array.min()) * 255
        assert np.abs(shown - exact).max() <= 0.5 + 1e-9
    else:
        assert shown.tolist() == [0] * len(values)


@pytest.mark.parametrize("window", ["auto", "range", "percentile"])
def test_a_flat_image_is_black_and_a_nearly_empty_one_is_not(window: str) -> None:
    flat, dot = np.full((30, 30), 7.5), np.zeros((30, 30))
    dot[3, 4] = 9
    for array, brightest in ((flat, 0), (dot, 255)):
        shown = to_bytes(array, *limits(array, Reading(window=window)))
        assert shown.max() == brightest
        assert (shown > 0).sum() == (array == 9).sum()


def test_what_is_not_finite_does_not_count(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, -1, 0, 3, np.inf, -np.inf]], np.float32)).save(tmp_path / "x.tiff")
    assert grey(tmp_path / "x.tiff") == [[0, 0, 64, 255, 255, 0]]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "y.tiff")
    with pytest.raises(ProbeError, match=r"y\.tiff'.*no pixel is a finite number"):
        pixels(tmp_path / "y.tiff")


@pytest.mark.parametrize("window", ["", "own", "1", "5,5", "9,1", "1,2,3", "nan,1", "0,inf", "a,b"])
def test_a_window_that_is_none_is_told(window: str) -> None:
    with pytest.raises(ProbeError, match="give auto, range, percentile, or two numbers LO,HI"):
        Reading(window=window)


def test_8_bits_are_taken_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(np.array([[3, 7]], np.uint8)).save(tmp_path / "x.png")
    for window in ("auto", "range", "0,7"):
        assert grey(tmp_path / "x.png", window) == [[3, 7]]


# modes


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 102, 0, 51)).save(tmp_path / "x.jpg", quality=100)
    # (255 - ink) (255 - black) / 255: 0, 153 * 204 / 255 = 122.4, 204
    assert np.abs(pixels(tmp_path / "x.jpg").astype(int) - [0, 122, 204]).max() <= 1


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_1_bit_tiff(tmp_path: Path, white_is_zero: bool) -> None:
    bits = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], bool)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0 if white_is_zero else 1
    Image.fromarray(bits).save(tmp_path / "x.tiff", tiffinfo=tags)
    with Image.open(tmp_path / "x.tiff") as stored:
        assert (stored.mode, stored.tag_v2[262]) == ("1", 0 if white_is_zero else 1)
    assert grey(tmp_path / "x.tiff") == (bits * 255).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_images_are_turned_upright(tmp_path: Path, orientation: int, deep: bool) -> None:
    upright = np.array([[0, 50, 100], [150, 200, 255]])
    undo = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (undo[orientation] * (257 if deep else 1)).astype(np.uint16 if deep else np.uint8)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    assert grey(tmp_path / "x.png") == upright.tolist()


def test_the_first_frame_is_read_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 20, 30)]
    for name in ("a.tiff", "b.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    images = ImageFiles([tmp_path / "a.tiff", tmp_path / "b.gif"])
    with caplog.at_level(logging.INFO, "probe"):
        assert [images.load(i).getpixel((0, 0)) for i in (0, 1)] == [(10, 10, 10)] * 2
    assert [record.message for record in caplog.records] == [
        f"'{tmp_path / 'a.tiff'}' holds 3 frames; of it and of any other such file the first is read"
    ]


# colour of 16 bits

DEEP_COLOUR = np.random.default_rng(0).integers(0, 65_536, (5, 7, 4), dtype=np.uint16)


def png16(values: NDArray[np.uint16], exif: bytes = b"") -> bytes:
    """A PNG of 16 bits per channel, by the specification."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(b"eXIf", exif) if exif else b"")
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def tiff16(values: NDArray[np.uint16], order: str) -> bytes:
    """An uncompressed TIFF of 16 bits per channel in one strip, by the specification."""
    height, width, channels = values.shape
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 8 + len(bits), 277: channels, 278: height}
    tags |= {279: values.size * 2} | ({338: 2} if channels == 4 else {})
    data = bits + values.astype(f"{order}u2").tobytes()
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, 3 if tag in (258, 338) else 4, channels if tag == 258 else 1)
        + (struct.pack(f"{order}H2x", value) if tag == 338 else struct.pack(f"{order}I", value))
        for tag, value in sorted(tags.items())
    )
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("form", ["png", "tiff <", "tiff >"])
def test_16_bit_colour_keeps_both_bytes(tmp_path: Path, form: str, channels: int) -> None:
    values = DEEP_COLOUR[..., :channels]
    suffix, _, order = form.partition(" ")
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(tiff16(values, order) if order else png16(values))
    colour = values[..., :3].astype(float)
    for window, low, high in (("range", colour.min(), colour.max()), ("0,255", 0, 255), ("30000,30100", 3e4, 30_100)):
        expected = np.rint(np.clip((colour - low) / (high - low), 0, 1) * 255)
        assert np.array_equal(pixels(file, window), expected)


def test_16_bit_colour_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    plain, turned, values = tmp_path / "a.png", tmp_path / "b.png", DEEP_COLOUR[..., :3]
    plain.write_bytes(png16(values))
    turned.write_bytes(png16(np.rot90(values), exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(pixels(turned), pixels(plain))


@pytest.mark.skipif(not features.check("libtiff"), reason="a Pillow without libtiff")
def test_16_bit_colour_in_a_compressed_tiff(tmp_path: Path) -> None:
    values = np.repeat(DEEP_COLOUR[:1, :, :3], 5, axis=0)
    plain, packed = tmp_path / "plain.tiff", tmp_path / "packed.tiff"
    plain.write_bytes(tiff16(values, "<"))
    strip = zlib.compress(values.tobytes())
    content = plain.read_bytes().replace(values.tobytes(), strip.ljust(values.nbytes, b"\0"))
    for tag, old, new in ((259, 1, 8), (279, values.nbytes, len(strip))):
        entry = struct.pack("<HHII", tag, 4, 1, old)
        assert content.count(entry) == 1
        content = content.replace(entry, struct.pack("<HHII", tag, 4, 1, new))
    packed.write_bytes(content)
    assert np.array_equal(pixels(packed, "range"), pixels(plain, "range"))


def deep_jpeg2000(file: Path) -> None:
    Image.new("RGB", (16, 16), (9, 99, 199)).save(file, irreversible=False)
    content = bytearray(file.read_bytes())
    depth = content.find(b"ihdr") + 14
    assert content[depth] == 7  # 8 bits, less one
    content[depth] = 11
    file.write_bytes(content)


CUT = {
    "grey and alpha": ("x.png", lambda file: file.write_bytes(png16(DEEP_COLOUR[..., :2]))),
    "ppm": ("x.ppm", lambda file: file.write_bytes(b"P6 2 1 65535\n" + bytes(range(12)))),
    "plain ppm": ("x.ppm", lambda file: file.write_bytes(b"P3 1 1 4095\n1 2 4095\n")),
    "sgi": ("x.sgi", lambda file: file.write_bytes(struct.pack(">HBBHHHH", 474, 0, 2, 2, 2, 1, 1) + bytes(508))),
    "jpeg 2000": ("x.jp2", deep_jpeg2000),
}


@pytest.mark.parametrize("case", CUT)
def test_what_pillow_would_cut_is_refused(tmp_path: Path, case: str) -> None:
    name, make = CUT[case]
    make(tmp_path / name)
    with pytest.raises(ProbeError, match=rf"{name}': it has more than 8 bits per channel, and Pillow reads 8"):
        pixels(tmp_path / name)


def test_8_bit_forms_of_the_same_are_read(tmp_path: Path) -> None:
    for name in ("x.ppm", "x.sgi", "x.jp2", "x.tiff", "x.png"):
        Image.new("RGB", (16, 16), (9, 99, 199)).save(tmp_path / name)
        assert (pixels(tmp_path / name) == [9, 99, 199]).all()


# DICOM


def dicom(file: Path, stored: NDArray[np.generic], photometric: str = "MONOCHROME2", **elements: object) -> Path:
    """A DICOM file with just what its pixels need."""
    header = Header()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid(entropy_srcs=["probe"])
    header.Rows, header.Columns = stored.shape[:2] if stored.ndim == 2 or stored.shape[-1] == 3 else stored.shape[1:3]
    header.SamplesPerPixel = 3 if stored.shape[-1] == 3 and stored.ndim > 2 else 1
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    header.PhotometricInterpretation = photometric
    header.BitsAllocated = header.BitsStored = stored.dtype.itemsize * 8
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    header.PixelData = stored.tobytes()
    for name, element in elements.items():
        setattr(header, name, element)
    header.save_as(file, enforce_file_format=True)
    return file


CT = np.array([[0, 924, 964], [1004, 1044, 2000]], np.int16)  # -1024, -100, -60, -20, 20, 976 HU


@pytest.mark.parametrize(
    ("window", "elements", "expected"),
    [
        # center 40, width 401: black at 40 - .5 - 200 = -160.5, white at 239.5
        ("auto", {"WindowCenter": 40, "WindowWidth": 401}, [[0, 39, 64], [90, 115, 255]]),
        ("auto", {"WindowCenter": [40, -600], "WindowWidth": [401, 1500]}, [[0, 39, 64], [90, 115, 255]]),
        # exact: black at -160, white at 240
        (
            "auto",
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            [[0, 38, 64], [89, 115, 255]],
        ),
        # 255 / (1 + exp(-4 (v - 40) / 400))
        (
            "auto",
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
            [[0, 50, 69], [90, 115, 255]],
        ),
        ("auto", {}, [[0, 118, 123], [128, 133, 255]]),  # -1024 to 976: 2,000 HU
        ("range", {"WindowCenter": 40, "WindowWidth": 401}, [[0, 118, 123], [128, 133, 255]]),
        ("-160,240", {"WindowCenter": 0, "WindowWidth": 9}, [[0, 38, 64], [89, 115, 255]]),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_dicom_is_rescaled_windowed_and_inverted(
    tmp_path: Path, photometric: str, window: str, elements: dict[str, object], expected: list[list[int]]
) -> None:
    file = dicom(tmp_path / "x.dcm", CT, photometric, RescaleSlope=1, RescaleIntercept=-1024, **elements)
    inverted = (255 - np.array(expected)).tolist()
    assert grey(file, window) == (inverted if photometric == "MONOCHROME1" else expected)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(tmp_path: Path, function: str) -> None:
    stored = np.arange(0, 4096, 7, dtype=np.uint16)[None]
    file = dicom(tmp_path / "x.dcm", stored, WindowCenter=1100, WindowWidth=900, VOILUTFunction=function)
    header = Header()
    header.PhotometricInterpretation, header.BitsStored, header.PixelRepresentation = "MONOCHROME2", 8, 0
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 1100, 900, function
    assert np.abs(pixels(file)[..., 0] - apply_windowing(stored, header)).max() <= 0.5 + 1e-6


def test_dicom_of_8_bits_is_taken_as_it_is(tmp_path: Path) -> None:
    stored = np.array([[3, 50, 90]], np.uint8)
    assert grey(dicom(tmp_path / "x.dcm", stored)) == stored.tolist()
    assert grey(dicom(tmp_path / "y.dcm", stored, "MONOCHROME1")) == (255 - stored).tolist()
    assert grey(tmp_path / "x.dcm", "3,90") == [[0, 138, 255]]


def test_dicom_with_a_voi_table(tmp_path: Path) -> None:
    item = Header()
    item.LUTDescriptor, item.LUTData = [4, 10, 12], [0, 4095, 819, 1638]
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    stored = np.array([[0, 10, 11, 12, 13, 99]], np.uint16)
    file = dicom(tmp_path / "x.dcm", stored, VOILUTSequence=Sequence([item]), WindowCenter=1, WindowWidth=2)
    assert grey(file) == [[0, 0, 255, 51, 102, 102]]


def test_dicom_in_colour(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert np.array_equal(pixels(dicom(tmp_path / "x.dcm", stored, "RGB")), stored)
    flat = np.full((4, 6, 3), (76, 85, 255), np.uint8)  # full red in YCbCr
    assert np.abs(pixels(dicom(tmp_path / "y.dcm", flat, "YBR_FULL")).astype(int) - [255, 0, 0]).max() <= 1


def test_the_first_of_several_dicom_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = np.stack([np.full((2, 4), value, np.uint8) for value in (5, 6, 7)])
    with caplog.at_level(logging.INFO, "probe"):
        assert grey(dicom(tmp_path / "x.dcm", stored, NumberOfFrames=3)) == [[5] * 4] * 2
    assert "holds 3 frames" in caplog.text


def test_dicom_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    for name in ("IM0001", "1.2.840.113", "x.DCM", "x.ima"):
        assert grey(dicom(tmp_path / name, np.array([[9, 8]], np.uint8))) == [[9, 8]]


@pytest.mark.parametrize("content", [b"", b"no header", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\x28" * 99])
def test_damaged_dicom_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(ProbeError, match=r"cannot read DICOM '.*x\.dcm'"):
        pixels(tmp_path / "x.dcm")


# NIfTI

VOLUME = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def nifti(file: Path, values: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> Path:
    nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_filename(file)
    return file


def brightness(values: NDArray[np.generic], low: float = 0, high: float = 23) -> list[list[int]]:
    return np.rint((values - low) / (high - low) * 255).astype(int).tolist()


@pytest.mark.parametrize(
    ("where", "plane"),
    [
        ("", VOLUME[:, :, 2]),
        ("#slice=0", VOLUME[:, :, 0]),
        ("#axis=2&slice=3", VOLUME[:, :, 3]),
        ("#axis=1", VOLUME[:, 1]),
        ("#axis=0&slice=1", VOLUME[1]),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_slice_of_a_volume(tmp_path: Path, suffix: str, where: str, plane: NDArray[np.int16]) -> None:
    file = nifti(tmp_path / f"v{suffix}", VOLUME)
    up = plane.T[::-1]  # the first axis to the right, the second up
    assert grey(Path(f"{file}{where}")) == brightness(up)  # of the volume's range, not of the slice's


def test_volumes_are_turned_to_right_anterior_superior(tmp_path: Path) -> None:
    plain = grey(Path(f"{nifti(tmp_path / 'a.nii', VOLUME)}#axis=2&slice=1"))
    flipped = nifti(tmp_path / "b.nii", np.ascontiguousarray(VOLUME[::-1]), np.diag([-1.0, 1, 1, 1]))
    turned_affine = np.eye(4)[[2, 0, 1, 3]]  # stored axes 0, 1, 2 run along y, z, x
    turned = nifti(tmp_path / "c.nii", np.ascontiguousarray(VOLUME.transpose(1, 2, 0)), turned_affine)
    for file in (flipped, turned):
        assert grey(Path(f"{file}#axis=2&slice=1")) == plain


def test_a_volume_is_scaled_by_its_own_slope(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.header.set_slope_inter(2, -10)
    image.to_filename(tmp_path / "v.nii")
    assert nibabel.load(tmp_path / "v.nii").get_fdata().max() == 36
    assert grey(Path(f"{tmp_path / 'v.nii'}#slice=3"), "-10,36") == brightness(VOLUME[:, :, 3].T[::-1])


def test_the_first_time_point_and_flat_volumes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moving = np.stack([VOLUME, VOLUME + 100], -1)
    with caplog.at_level(logging.INFO, "probe"):
        assert grey(nifti(tmp_path / "t.nii.gz", moving)) == brightness(VOLUME[:, :, 2].T[::-1])
    assert "holds 2 frames" in caplog.text
    assert grey(nifti(tmp_path / "f.nii", VOLUME[:, :, 0])) == brightness(VOLUME[:, :, 0].T[::-1], 0, 20)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("#slice=4", "axis 2 has the slices 0 to 3"),
        ("#axis=3", "does not name a slice"),
        ("#slice=-1", "does not name a slice"),
        ("#time=1", "does not name a slice"),
        ("#slice=x", "does not name a slice"),
    ],
)
def test_a_slice_that_is_not_there(tmp_path: Path, where: str, words: str) -> None:
    file = nifti(tmp_path / "v.nii.gz", VOLUME)
    with pytest.raises(ProbeError, match=words):
        pixels(Path(f"{file}{where}"))


@pytest.mark.parametrize("content", [b"", b"no volume", bytes(400)])
def test_damaged_nifti_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(ProbeError, match=r"cannot read NIfTI '.*v\.nii'"):
        pixels(tmp_path / "v.nii")


# damage


@given(data=st.data())
@EXAMPLES
def test_a_damaged_image_is_read_or_told_in_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    form = data.draw(st.sampled_from(["PNG", "TIFF", "GIF", "JPEG", "BMP", "WEBP", "JPEG2000", "PPM"]))
    buffer = io.BytesIO()
    Image.fromarray(DEEP_COLOUR[..., :3].astype(np.uint8)).save(buffer, form)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image, _ = read_picture(file, Reading())
        outcome = image.mode
    except ProbeError as error:
        outcome = str(error)
    assert outcome == "RGB" or (str(file) in outcome and "\n" not in outcome)
