"""What folders of users hold: bad input is refused by a sentence that names it, or read right; none hangs or grows."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import fusionlib as fl
from fusionlib.data import Pair, load
from fusionlib.data.annotations import read_labels
from fusionlib.data.image_io import image_size, read_image
from fusionlib.utils.errors import FusionError

HEIGHT, WIDTH = 24, 36
GRAY = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
REFUSED = None  # beside (H, W) and (H, W, 3): what is expected


def encoded(image, kind, **options):
    """An array or Pillow image as the bytes of a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth=8, colour=0, data=b""):
    """A png with this header, whatever its data."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pictures():
    """{file name: (bytes, what is expected)}."""
    whole = {
        "png": encoded(COLOUR, "PNG"),
        "jpg": encoded(COLOUR, "JPEG", quality=95),
        "bmp": encoded(COLOUR, "BMP"),
        "tif": encoded(COLOUR, "TIFF"),
    }
    found = {f"whole.{kind}": (data, (HEIGHT, WIDTH, 3)) for kind, data in whole.items()}
    for kind, data in whole.items():
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
            found[f"cut-{share}.{kind}"] = (data[: int(share * len(data))], REFUSED)
        found[f"zeros.{kind}"] = (bytes(len(data)), REFUSED)
        found[f"empty.{kind}"] = (b"", REFUSED)
        found[f"noise.{kind}"] = (np.random.default_rng(2).bytes(3000), REFUSED)
        found[f"head-only.{kind}"] = (data[:8] + bytes(2000), REFUSED)
        found[f"page.{kind}"] = (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", REFUSED)
        found[f"pointer.{kind}"] = (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", REFUSED)
        found[f"zip.{kind}"] = (b"PK\x03\x04" + bytes(200), REFUSED)
        found[f"json.{kind}"] = (b'{"image": 1}', REFUSED)
        found[f"text.{kind}"] = ("bilder, nicht Text\n".encode("utf-16"), REFUSED)
        other = {"png": "jpg", "jpg": "png", "bmp": "tif", "tif": "bmp"}[kind]
        found[f"is-{other}.{kind}"] = (whole[other], (HEIGHT, WIDTH, 3))
    for position in (40, 60, 120, 400, 1200):  # png has check sums
        broken = bytearray(whole["png"])
        broken[position] ^= 0xFF
        found[f"flipped-{position}.png"] = (bytes(broken), REFUSED)
    gray = Image.fromarray(GRAY)
    for mode, shape in (("1", 2), ("P", 3), ("LA", 3), ("RGBA", 3), ("L", 2), ("I;16", 2)):
        image = gray.convert(mode) if mode != "I;16" else Image.fromarray(GRAY.astype(np.uint16) * 257)
        found[f"mode-{mode[:4].replace(';', '')}.png"] = (encoded(image, "PNG"), (HEIGHT, WIDTH) + (3,) * (shape == 3))
    found["cmyk.jpg"] = (encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), (HEIGHT, WIDTH, 3))
    found["progressive.jpg"] = (encoded(COLOUR, "JPEG", progressive=True), (HEIGHT, WIDTH, 3))
    found["gray.jpg"] = (encoded(GRAY, "JPEG"), (HEIGHT, WIDTH))
    for way in ("tiff_lzw", "tiff_deflate", "packbits"):
        found[f"{way}.tif"] = (encoded(COLOUR, "TIFF", compression=way), (HEIGHT, WIDTH, 3))
    pages = [Image.fromarray(COLOUR), Image.new("RGB", (5, 5))]
    found["pages.tif"] = (encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), (HEIGHT, WIDTH, 3))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        shape = (HEIGHT, WIDTH, 3) if turn < 5 else (WIDTH, HEIGHT, 3)
        found[f"turned-{turn}.jpg"] = (encoded(COLOUR, "JPEG", exif=exif), shape)
    for side in (10**5, 2**20, 2**31 - 1):
        found[f"huge-{side}.png"] = (png(side, side), REFUSED)
        found[f"wide-{side}.png"] = (png(side, 1), REFUSED)
        bmp = bytearray(whole["bmp"])
        bmp[18:26] = struct.pack("<ii", side, side)
        found[f"huge-{side}.bmp"] = (bytes(bmp), REFUSED)
    found["nothing-wide.png"] = (png(0, 5), REFUSED)
    found["depth-3.png"] = (png(5, 5, depth=3), REFUSED)
    found["colour-9.png"] = (png(5, 5, colour=9), REFUSED)
    found["no-data.png"] = (png(5, 5), REFUSED)
    found["one-pixel.png"] = (encoded(np.uint8([[7]]), "PNG"), (1, 1))
    return found


PICTURES = pictures()
NAMES = [
    "ä ö ü",
    "夜の道",
    "e\u0301",
    "🚶",
    "a'b\"c",
    "a b\tc",
    "%s%n",
    "-rf",
    "..x",
    "a#b?c&d",
    "x" * 200,
    "new\nline",
]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_right_or_named(tmp_path, name):
    data, expected = PICTURES[name]
    path = tmp_path / name
    path.write_bytes(data)
    if expected is REFUSED:
        with pytest.raises(FusionError, match=re.escape(str(path))):
            read_image(path)
        with pytest.raises(FusionError, match=re.escape(str(path))):
            load(Pair("Toy", "", "x", path, path))
        return
    image = read_image(path)
    assert image.shape == expected and image_size(path) == expected[:2]
    ir, visible = load(Pair("Toy", "", "x", path, path))
    assert ir.shape == (1, *expected[:2]) and visible.shape == (3, *expected[:2])
    if name.startswith(
        ("whole.png", "whole.bmp", "whole.tif", "is-png", "is-bmp", "is-tif", "tiff", "packbits", "pages")
    ):
        assert np.array_equal(image, COLOUR)
    if name.startswith("turned"):
        with Image.open(path) as stored:
            assert np.abs(image.astype(int) - np.asarray(ImageOps.exif_transpose(stored))).mean() < 2  # two decoders


@pytest.mark.parametrize(
    "values", [GRAY.astype(np.float32), GRAY.astype(np.int32), np.full((HEIGHT, WIDTH), np.inf, np.float32)]
)
def test_what_is_no_gray_level_is_infrared_alone(tmp_path, values):
    """Radiometric types are read as infrared; as a visible image, or where they are infinite, they are named."""
    whole, path = tmp_path / "whole.png", tmp_path / "radiometric.tif"
    whole.write_bytes(encoded(COLOUR, "PNG"))
    path.write_bytes(encoded(Image.fromarray(values), "TIFF"))
    assert read_image(path).dtype == values.dtype
    with pytest.raises(FusionError, match=re.escape(str(path))):
        load(Pair("Toy", "", "x", whole, path))
    if np.isfinite(values).all():
        ir, _ = load(Pair("Toy", "", "x", path, whole))
        assert ir.min() == 0 and ir.max() == 1
    else:
        with pytest.raises(FusionError, match=re.escape(str(path))):
            load(Pair("Toy", "", "x", path, whole))


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_names(tmp_path, name):
    path = tmp_path / f"{name}.png"
    path.write_bytes(PICTURES["whole.png"][0])
    assert np.array_equal(read_image(path), COLOUR)


@pytest.mark.parametrize("kind", ["missing", "folder", "link to nothing", "link to itself", "pipe", "endless"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, kind):
    path = tmp_path / "x.png"
    make = {
        "missing": lambda: None,
        "folder": path.mkdir,
        "link to nothing": lambda: path.symlink_to(tmp_path / "gone"),
        "link to itself": lambda: path.symlink_to(path),
        "pipe": lambda: os.mkfifo(path),
        "endless": lambda: path.symlink_to("/dev/zero"),
    }[kind]
    make()
    for read in (read_image, image_size):
        with pytest.raises(FusionError, match=re.escape(str(path))):
            read(path)


def voc(body, size="<size><width>36</width><height>24</height></size>", head=""):
    return f"{head}<annotation>{size}{body}</annotation>"


def thing(x1, y1, x2, y2, name="person"):
    edges = "".join(f"<{e}>{v}</{e}>" for e, v in zip(("xmin", "ymin", "xmax", "ymax"), (x1, y1, x2, y2)))
    return f"<object><name>{name}</name><bndbox>{edges}</bndbox></object>"


#: {name: (content, boxes that are left, None: the file counts as no label, and a part of what is reported)}
LABELS = {
    "good.txt": ("0 .5 .5 .5 .5\n", 1, ""),
    "none.txt": ("", 0, ""),
    "blank.txt": ("\n \n\n", 0, ""),
    "crlf.txt": ("0 .5 .5 .5 .5\r\n0 .4 .4 .2 .2\r\n", 2, ""),
    "tabs.txt": ("0\t.5\t.5\t.5\t.5", 1, ""),
    "four.txt": ("0 .5 .5 .5\n", None, "five numbers"),
    "six.txt": ("0 .5 .5 .5 .5 .9\n", None, "five numbers"),
    "words.txt": ("person .5 .5 .5 .5\n", None, "five numbers"),
    "comma.txt": ("0,.5,.5,.5,.5\n", None, "five numbers"),
    "nan.txt": ("0 nan .5 .5 .5\n", None, "five numbers"),
    "inf.txt": ("0 inf .5 .5 .5\n", None, "five numbers"),
    "huge.txt": ("0 1e308 .5 1e308 .5\n0 .5 .5 .5 .5\n", 1, "line 1"),
    "hex.txt": ("0x0 .5 .5 .5 .5", None, "five numbers"),
    "negative.txt": ("0 .5 .5 -.5 .5\n0 .5 .5 .5 .5\n", 1, "no area"),
    "flat.txt": ("0 .5 .5 0 .5\n", None, "no area"),
    "outside.txt": ("0 3 3 .5 .5\n", None, "outside"),
    "left.txt": ("0 -1 .5 .1 .1\n", None, "outside"),
    "over.txt": ("0 .9 .5 .5 .5\n", 1, "sticks out"),
    "whole.txt": ("0 .5 .5 1 1\n", 1, ""),
    "pixels.txt": ("0 18 12 10 10\n", None, "outside"),
    "class.txt": ("7 .5 .5 .5 .5\n", None, "unknown class"),
    "half.txt": ("0.5 .5 .5 .5 .5\n", None, "unknown class"),
    "minus.txt": ("-1 .5 .5 .5 .5\n", None, "unknown class"),
    "mixed.txt": ("0 .5 .5 .5 .5\n???\n0 .2 .2 .2 .2\n", 2, "line 2"),
    "binary.txt": (b"\xff\xfe\x00\x01", None, "cannot be used"),
    "zeros.txt": (bytes(300), None, "five numbers"),
    "long.txt": ("0 .5 .5 .5 .5 " + "9" * 10**5, None, "five numbers"),
    "utf16.txt": ("0 .5 .5 .5 .5\n".encode("utf-16"), None, "cannot be used"),
    "bom.txt": ("\ufeff0 .5 .5 .5 .5\n", 1, ""),
    "full-width.txt": ("０ .5 .5 .5 .5\n", 1, ""),
    "yaml.txt": ("!!python/object/apply:os.system ['true']", None, "five numbers"),
    "good.xml": (voc(thing(2, 3, 20, 20)), 1, ""),
    "none.xml": (voc(""), 0, ""),
    "sizeless.xml": (voc(thing(2, 3, 20, 20), ""), 1, ""),
    "reversed.xml": (voc(thing(20, 20, 2, 3)), None, "no area"),
    "one-reversed.xml": (voc(thing(20, 3, 2, 20)), None, "no area"),
    "point.xml": (voc(thing(5, 5, 5, 5)), None, "no area"),
    "outside.xml": (voc(thing(50, 3, 60, 20)), None, "outside"),
    "above.xml": (voc(thing(2, -30, 20, -3)), None, "outside"),
    "over.xml": (voc(thing(-9, 3, 20, 20)), 1, "sticks out"),
    "nan.xml": (voc(thing("nan", 3, 20, 20)), None, "four numbers"),
    "inf.xml": (voc(thing(2, 3, "inf", 20)), None, "four numbers"),
    "word.xml": (voc(thing("two", 3, 20, 20)), None, "four numbers"),
    "void.xml": (voc(thing("", 3, 20, 20)), None, "four numbers"),
    "boxless.xml": (voc("<object><name>person</name></object>"), None, "four numbers"),
    "three.xml": (voc("<object><name>person</name><bndbox><xmin>1</xmin></bndbox></object>"), None, "four numbers"),
    "nameless.xml": (voc(thing(2, 3, 20, 20, "")), None, "unknown class"),
    "kind.xml": (voc(thing(2, 3, 20, 20, "dragon")), None, "unknown class"),
    "upper.xml": (voc(thing(2, 3, 20, 20, "PERSON")), 1, ""),
    "markup.xml": (voc(thing(2, 3, 20, 20, "<![CDATA[<b>]]>")), None, "unknown class"),
    "other-size.xml": (voc(thing(2, 3, 20, 20), "<size><width>99</width><height>99</height></size>"), None, "99x99"),
    "size-word.xml": (
        voc(thing(2, 3, 20, 20), "<size><width>a</width><height>b</height></size>"),
        None,
        "cannot be used",
    ),
    "cut.xml": (voc(thing(2, 3, 20, 20))[:60], None, "cannot be used"),
    "empty.xml": ("", None, "cannot be used"),
    "html.xml": ("<html><body/></html>", None, "annotation"),
    "text.xml": ("nothing here", None, "cannot be used"),
    "entity.xml": (voc(thing(2, 3, 20, 20, "&x;"), head='<!DOCTYPE a [<!ENTITY x "person">]>'), None, "entities"),
    "laughs.xml": (
        voc("&c;", head='<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>'),
        None,
        "entities",
    ),
    "outer.xml": (voc("&x;", head='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), None, "entities"),
    "utf16-entity.xml": (
        voc("&x;", head='<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]>').encode("utf-16"),
        None,
        "entities",
    ),
    "deep.xml": ("<a>" * 5000 + "</a>" * 5000, None, "cannot be used"),
    "binary.xml": (b"\x00\xff" * 50, None, "cannot be used"),
    "namespace.xml": ('<annotation xmlns="x"><object/></annotation>', None, ""),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_read_right_or_reported(tmp_path, name):
    content, count, words = LABELS[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    boxes, classes, problems = read_labels(path, (HEIGHT, WIDTH))
    assert (None if boxes is None else len(boxes)) == count
    assert bool(problems) == bool(words) or not words
    assert all(str(path) in str(problem) for problem in problems) and words in " ".join(map(str, problems))
    if boxes is not None:
        assert boxes.shape == (count, 4) and len(classes) == count and np.isfinite(boxes).all()
        assert (boxes >= 0).all() and (boxes <= [WIDTH, HEIGHT] * 2).all() and (boxes[:, 2:] > boxes[:, :2]).all()


GOOD = torch.rand(1, 16, 20), torch.rand(3, 16, 20)
#: {name: (infrared, visible)} that `fuse` must refuse.
ARRAYS = {
    "nan": (GOOD[0].clone().index_fill_(2, torch.tensor([3]), torch.nan), GOOD[1]),
    "infinite": (GOOD[0], GOOD[1] / 0),
    "negative": (GOOD[0] - 1, GOOD[1]),
    "above one": (GOOD[0], GOOD[1] * 255),
    "other size": (GOOD[0][:, :8], GOOD[1]),
    "turned": (GOOD[0].transpose(1, 2), GOOD[1]),
    "empty": (GOOD[0][:, :0], GOOD[1][:, :0]),
    "line": (GOOD[0][0, 0], GOOD[1]),
    "five axes": (GOOD[0][None, None], GOOD[1]),
    "two channels": (GOOD[0], GOOD[1][:2]),
    "five channels": (GOOD[0], torch.rand(5, 16, 20)),
    "int64": ((GOOD[0] * 255).long(), GOOD[1]),
    "int8": (GOOD[0], (GOOD[1] * 100).to(torch.int8)),
    "bool": (GOOD[0] > 0.5, GOOD[1]),
    "complex": (GOOD[0], GOOD[1].to(torch.complex64)),
    "none": (None, GOOD[1]),
    "number": (GOOD[0], 3),
    "list": (GOOD[0].tolist(), GOOD[1]),
    "objects": (np.array([[None]]), GOOD[1]),
    "text array": (np.array([["a"]]), GOOD[1]),
    "bytes": (b"x", GOOD[1]),
    "no file": ("nowhere.png", GOOD[1]),
    "no name": ("", GOOD[1]),
    "null": ("a\0b.png", GOOD[1]),
    "batch and image": (GOOD[0][None], GOOD[1]),
    "batches of other length": (GOOD[0][None].expand(2, -1, -1, -1), GOOD[1][None]),
    "no batch": (GOOD[0][None][:0], GOOD[1][None][:0]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_no_pair_of_images_is_not_fused(name):
    with pytest.raises(FusionError) as raised:
        fl.fuse(*ARRAYS[name])
    assert len(str(raised.value)) < 500 and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", " ", "\n", 3, b"darker", ["darker"], True])
def test_what_is_no_instruction_is_refused(text):
    with pytest.raises(FusionError, match="instruction must be None"):
        fl.fuse(*GOOD, text)


def test_there_are_enough_of_them():
    assert len(PICTURES) + len(NAMES) + 6 + len(LABELS) + len(ARRAYS) + 7 >= 200
