"""Hostile and odd inputs through the real commands, in ten kinds: nothing is lost, nothing hangs, nothing escapes.

Each table has one row for each case: what it is, how it is made in a folder that has the pairs 1 to 3 in ir/, vi/ and
fused/, the command, its exit code (0; 3 for some problems; 1 for an error in one sentence) and words that it says.
"""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import fusionlib as fl
from fusionlib.__main__ import main
from fusionlib.config import PROFILES, overrides
from fusionlib.data import medical
from fusionlib.data.image_io import read_image, write_image
from fusionlib.data.manifests import _fingerprint
from fusionlib.experiments.run import open_run
from fusionlib.experiments.stages import data as data_stage
from fusionlib.utils.errors import FusionError

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.name != "posix", reason="pipes, devices, links and signals are those of POSIX"),
]
HEIGHT, WIDTH = 32, 40
NOT_REGULAR = "found a device, pipe or socket"
COMMANDS = {
    "fuse": "fuse --ir ir --visible vi --out out",
    "metrics": "metrics --fused fused --ir ir --visible vi --names AG",
    "ask": "ask --images ir --store store --backend none",
    "check": "data check --ir ir --visible vi",
}
SETTINGS = "--set scenes_train=0 threads=1"  # of the run of somebody else


def smooth(seed, *channels):
    """An image that is no noise, so that no two are aligned with each other by chance."""
    small = np.random.default_rng(seed).integers(256, size=(4, 5, *channels), dtype=np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for number in (1, 2, 3):
        image = smooth(number, 3)
        write_image(folder / f"vi/{number}.png", image)
        write_image(folder / f"ir/{number}.png", image[..., 0])
        write_image(folder / f"fused/{number}.png", image[..., 1])
    return folder


@pytest.fixture
def here(originals, tmp_path, monkeypatch):
    """The working folder, with the pairs 1 to 3."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, capfd) -> tuple[int, str]:
    """The exit code of a command, and what it says; no traceback, no command to the terminal, at most one error."""
    code = main(command.split() if isinstance(command, str) else command)
    said = capfd.readouterr()
    text = (said.out + said.err).replace("\x1b[A", "")  # by which tqdm moves
    assert "Traceback" not in text and not set("\x1b\x07") & set(text)
    assert said.err.count("error: ") <= 1 and (code != 1 or "error: " in said.err or len(said.err.splitlines()) >= 1)
    assert not [path for path in Path().glob("out/**/.*") if path.is_file()], "a file that was begun stays"
    return code, text


def environment(**more):
    search = os.pathsep.join([str(fl.ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": search, **more}


def started(command, **more):
    """A command as a process of its own, with more variables in its environment; it can be interrupted.

    What a shell starts in the background ignores interrupts, and so would this process if the tests run there.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([sys.executable, "-m", "fusionlib", *command.split()], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment(**more))  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def ended(command, **more):
    """Exit code, stdout and stderr, as bytes, of a process of its own."""
    process = started(command, **more)
    out, error = process.communicate(timeout=100)
    return process.returncode, out, error


def png(width, height, depth=8, colour=0):
    """A black png of any size, some kilobytes long."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    compress, line = zlib.compressobj(1), bytes(1 + (width * depth * {0: 1, 2: 3}[colour] + 7) // 8)
    data = b"".join([*(compress.compress(line) for _ in range(height)), compress.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(kind, image, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def link(target):
    return lambda path: path.symlink_to(target)


def in_a_circle(path):
    path.symlink_to(path.name)


def sparse(size):
    return lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), size)


def content(data):
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode())


#: What somebody may have put in the place of a file.
NO_FILES = {
    "pipe": (os.mkfifo, NOT_REGULAR), "endless device": (link("/dev/zero"), NOT_REGULAR),
    "empty device": (link("/dev/null"), NOT_REGULAR), "circular link": (in_a_circle, "symbolic link"),
    "link to nothing": (link("gone"), "No such file"), "6 GB of nothing": (sparse(6 << 30), "6442 MB"),
    "empty file": (content(b""), "an empty file"), "text": (content("no image"), "truncated, damaged or something"),
    "half a png": (content(encoded("PNG", smooth(0, 3))[:700]), "truncated, damaged or something"),
    "png of 10^9 pixels": (content(png(32000, 32000, 1)), "at most 67,108,864 pixels"),
    "png of 64 million pixels": (content(png(8000, 8000)), "a byte for each 50 pixels"),
    "tiff of 9000x9000": (content(encoded("TIFF", np.zeros((9000, 9000), bool), compression="group4")), "67,108,864"),
    "gif of 20000x20000": (content(b"GIF89a" + struct.pack("<HH", 20000, 20000) + bytes(100)), "damaged or something"),
    "webp of 9000x9000": (content(encoded("WEBP", np.zeros((9000, 9000), bool), lossless=True)), "67,108,864"),
}  # fmt: skip
#: Names that are valid ones, and must be used as any other.
NAMES = {
    "251 bytes": "x" * 251, "83 Chinese letters": "路" * 83, "not UTF-8": os.fsdecode(b"a\xff\xfe"),
    "a line break": "a\nb", "controls": "a\x1b[2J\x07", "right to left": "\u202egnp", "a formula": "=cmd|x",
    "a star": "a*b", "brackets": "[1]", "an option": "-rf", "percent": "%s%n{0}", "spaces": "  ",
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_one_bad_item_of_a_folder_is_named_and_the_rest_goes_on(here, capfd, kind, command):
    make, words = NO_FILES[kind]
    (here / "ir" / "2.png").unlink()
    make(here / "ir" / "2.png")
    code, said = run(COMMANDS[command], capfd)
    assert code == 3 and "ir/2.png" in said and words in said
    assert {"fuse": "2 fused", "metrics": "2 images", "ask": "2 images", "check": "usable pairs: 2"}[command] in said


@pytest.mark.parametrize("kind", NO_FILES)
def test_the_viewer_names_it(here, kind):
    (here / "ir" / "2.png").unlink()
    NO_FILES[kind][0](here / "ir" / "2.png")
    viewer = fl.browse(here)
    names, notes = [entry["name"] for entry in viewer.gallery["entries"]], " ".join(viewer.gallery["notes"])
    shown = {}
    for index, name in enumerate(names):
        for pane in viewer.gallery["entries"][index]["panes"]:
            try:
                shown[name, pane] = viewer._handler.image({"entry": index, "pane": pane})[1]
            except FusionError as error:
                notes += str(error)
    viewer.close()
    assert "ir/2.png: " in notes and sum(pane == "infrared" for _, pane in shown) == 2


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", NAMES)
def test_odd_names_are_names(here, capfd, kind, command):
    for folder in ("ir", "vi", "fused"):
        (here / folder / "2.png").rename(here / folder / f"{NAMES[kind]}.png")
    code, said = run(f"{COMMANDS[command]}{' --out table.csv' * (command == 'metrics')}", capfd)
    assert code == 0, said
    assert {"fuse": "3 fused", "metrics": "3 images", "ask": "3 images", "check": "usable pairs: 3"}[command] in said
    if command == "fuse":
        assert read_image(f"out/{NAMES[kind]}.png").shape == (HEIGHT, WIDTH, 3)
    if command == "metrics":  # a name that is a formula is a text for a spreadsheet
        lines = (here / "table.csv").read_text(encoding="utf-8").splitlines()
        assert not any(cell.lstrip('"').startswith(("=", "@")) for line in lines for cell in line.split(","))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", os.fsdecode(b"\xff"), "夜"])
def test_stars_stand_for_any_name(here, capfd, name):
    for folder in ("ir", "vi"):
        (here / folder / "2.png").rename(here / folder / f"{name}_{folder}.png")
    code, _ = run("fuse --ir ir/*_ir --visible vi/*_vi --out out", capfd)
    assert code == 0 and os.listdir("out") == [f"{name}_vi.png"]


#: What may be in the place of a result: nothing of it is touched, and the others are made.
RESULTS = {
    "folder": (Path.mkdir, "found a folder"), "pipe": (os.mkfifo, NOT_REGULAR),
    "device": (link("/dev/zero"), NOT_REGULAR), "full device": (link("/dev/full"), NOT_REGULAR),
    "another image": (content(png(4, 4)), "found another one"), "6 GB": (sparse(6 << 30), "found 6442 MB"),
    "link to a source": (link("../ir/1.png"), "found another one"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESULTS)
def test_what_is_in_the_place_of_a_result_is_kept_and_named(here, capfd, kind):
    make, words = RESULTS[kind]
    (here / "out").mkdir()
    make(here / "out" / "2.png")
    before = os.lstat("out/2.png"), read_image("ir/1.png").tobytes()
    code, said = run(COMMANDS["fuse"], capfd)
    assert code == 3 and f"out/2.png: expected an image that this command made, {words}" in said and "2 fused" in said
    after = os.lstat("out/2.png"), read_image("ir/1.png").tobytes()
    assert (before[0].st_ino, before[0].st_mode, before[1]) == (after[0].st_ino, after[0].st_mode, after[1])


@pytest.mark.parametrize(("kind", "damage"), [
    ("cut", lambda data: data[:-30]), ("empty", lambda data: b""),
    ("zeros in the middle", lambda data: data[:600] + bytes(300) + data[900:]),
    ("a bit in the middle", lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:]),
])  # fmt: skip
def test_a_result_that_does_not_read_back_is_made_again(here, capfd, kind, damage):
    assert run(COMMANDS["fuse"], capfd)[0] == 0
    whole = (here / "out/2.png").read_bytes()
    (here / "out/2.png").write_bytes(damage(whole))
    code, said = run(COMMANDS["fuse"], capfd)
    assert code == 0 and "2 kept" in said and (here / "out/2.png").read_bytes() == whole


VOC = "<annotation>{}<object><name>person</name></object></annotation>"
DEEP = b"[" * 100_000
#: {file of labels: (how it is made, words)}; labels of the pairs 1 and 3 are whole.
LABELS = {
    "2.txt pipe": (os.mkfifo, NOT_REGULAR[6:]), "2.xml device": (link("/dev/zero"), NOT_REGULAR[6:]),
    "2.json pipe": (os.mkfifo, NOT_REGULAR[6:]), "2.txt 6 GB": (sparse(6 << 30), "6442 MB"),
    "2.xml 6 GB": (sparse(6 << 30), "6442 MB"), "2.json 6 GB": (sparse(6 << 30), "6442 MB"),
    "2.txt link": (in_a_circle, "symbolic links"),
    "2.xml encoding": (content('<?xml version="1.0" encoding="klingon"?><a/>'), "unknown encoding"),
    "2.xml codec": (content('<?xml version="1.0" encoding="base64"?><a/>'), "not a text encoding"),
    "2.xml inf": (content(VOC.format("<size><width>inf</width><height>9</height></size>")), "infinity"),
    "2.xml 1e999": (content(VOC.format("<size><width>9</width><height>1e999</height></size>")), "infinity"),
    "2.xml nan": (content(VOC.format("<size><width>nan</width><height>9</height></size>")), "NaN"),
    "2.json deep": (content(DEEP), "nested too deeply"), "2.json objects": (content(b'{"a":' * 100_000), "nested too"),
    "2.json numbers": (content('{"shapes":[{"label":"person","points":[[1e999,NaN],[2,3]]}]}'), "two numbers"),
    "2.json digits": (content('{"shapes":[{"label":"person","points":[[%s,1],[2,3]]}]}' % ("9" * 5000)), "two numbers"),
    "2.txt long line": (content(b"0 " * 4_000_000), "8 MB"),
    "data.yaml bomb": (content("k0: &k0 x\n" + "".join(
        f"k{i}: &k{i} [{','.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 10)) + "names: *k9"), "a list is no name"),
    "data.yaml circle": (content("names: &a [*a]"), "a list is no name"),
    "data.yaml deep": (content("names: " + "[" * 5000), "recursion"),
    "data.yaml code": (content("names: !!python/object/apply:os.system ['touch ran']"), "constructor"),
    "data.yaml inf": (content("names: {.inf: person}"), "infinity"), "data.yaml pipe": (os.mkfifo, NOT_REGULAR[6:]),
    "classes.txt 6 GB": (sparse(6 << 30), "6442 MB"), "../scenes.tsv pipe": (os.mkfifo, NOT_REGULAR[6:]),
    "../scenes.tsv 6 GB": (sparse(6 << 30), "6442 MB"),
    "../scenes.tsv field": (content("name\tscene\n1\t" + "x" * 200_000), "field limit"),
    "coco.json inf": (content('{"images":[{"id":1,"file_name":"2.png"}],"annotations":[{"image_id":1,"category_id":1,'
                              '"bbox":[NaN,1,1e999,2]}],"categories":[{"id":1,"name":"person"}]}'), "four numbers"),
    "coco.json ids": (content('{"images":[{"id":[1],"file_name":"2.png"}],"annotations":[],"categories":[]}'), "as"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_are_read_or_named(here, capfd, kind):
    make, words = LABELS[kind]
    (here / "labels").mkdir()
    for number in (1, 3):
        (here / "labels" / f"{number}.txt").write_text("0 .5 .5 .2 .2\n")
    make(here / "labels" / kind.split()[0])
    code, said = run(f"{COMMANDS['check']} --labels labels", capfd)
    assert code == 3 and words in said and "usable pairs: 3" in said and not Path("ran").exists()
    assert max(map(len, said.splitlines())) < 1000


def test_a_folder_that_cannot_be_listed_is_named(here, capfd, monkeypatch):
    """Also for root, who can list every one."""
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (here / "ir" / "lost+found").mkdir()
    monkeypatch.setattr(os, "scandir", denied)
    for command in COMMANDS.values():
        code, said = run(command, capfd)
        assert code == 3 and "lost+found: expected a folder that can be listed" in said
    (here / "ir" / "lost+found").rename(here / "lost+found")
    assert run("data check .", capfd)[0] == 0


@pytest.mark.parametrize(("kind", "shape", "words"), [
    ("640^3", (640, 640, 640), "at most 67,108,864 voxels"), ("32767^3", (32767, 32767, 32767), "at most 67,108,864"),
    ("of another size", (24, 24, 13), "expected [24, 24, 13] voxels"), ("cut", (24, 24, 12), "could the file be"),
    ("pipe", None, NOT_REGULAR),
])  # fmt: skip
def test_volumes_are_looked_at_before_they_are_read(here, kind, shape, words):
    """As by notebook 08, of which this is the cell that reads them."""
    head = np.zeros((24, 24, 12), np.float32)
    head[6:18, 6:18, 2:10] = np.random.default_rng(0).random((12, 12, 8))
    for case, modality in (("good", "t1"), ("good", "flair"), ("odd", "flair")):
        (here / "B" / case).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(head, np.eye(4)), here / f"B/{case}/{case}_{modality}.nii.gz")
    if shape is None:
        os.mkfifo("B/odd/odd_t1.nii")
    else:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape(shape)
        header.set_sform(np.eye(4))
        header["vox_offset"], header["magic"] = 352, b"n+1"
        Path("B/odd/odd_t1.nii").write_bytes(header.binaryblock + bytes(2000))
    report = medical.read("B", "out", 2)
    assert len(report.pairs) == 2 and words in str(report.problems[0])


SAYS = b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%s}}]}'  # noqa: E501
#: {what a server answers: (its bytes, their number that it states or None: endless, headers, exit code, words)}
ANSWERS = {
    "good": (SAYS % b'"brighter"', 1, {}, 0, "3 images, 3 new answers"),
    "300 MB": (SAYS[:120] + b"a" * (1 << 21), 300 << 20, {}, 1, "should answer as the OpenAI API does"),
    "endless": (b" " * 65536, None, {}, 1, "should answer as the OpenAI API does"),
    "compressed": (zlib.compress(b" " * (1 << 24)), 1, {"Content-Encoding": "deflate"}, 1, "should answer as"),
    "deep": (DEEP, 1, {}, 1, "should answer as the OpenAI API does"),
    "a long text": (SAYS % (b'"' + b"a " * 100_000 + b'"'), 1, {}, 1, "at most 65,536 are kept"),
    "half a character": (SAYS % rb'"\ud800 bright"', 1, {}, 0, "3 new answers"),
    "commands to the terminal": (SAYS % rb'"\u001b[2J\u0007"', 1, {}, 0, "3 new answers"),
    "no choices": (b'{"choices":null}', 1, {}, 1, "should answer as the OpenAI API does"),
    "a number": (SAYS % b"5", 1, {}, 1, "should answer as the OpenAI API does"),
    "slow": (b" ", -1, {}, 1, "did not answer within 1 s"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_servers_answer_is_bounded(here, capfd, kind):
    body, length, headers, expected, words = ANSWERS[kind]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            if length:
                self.send_header("Content-Length", str(len(body) if length == 1 else abs(length) * 100))
            self.end_headers()
            try:
                self.wfile.write(body)
                while length in (None, -1):
                    self.wfile.write(body)
                    time.sleep(0.1 if length else 0)
            except OSError:  # the client has seen enough
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    command = f"ask --images ir --store store --backend server --set url={address} model=m retries=0 timeout=1"
    command = command.replace("timeout=1", "timeout=1" if kind == "slow" else "timeout=30")
    code, said = run(command, capfd)
    server.shutdown()
    assert code == expected and words in said and len(said) < 5000


@pytest.fixture(scope="module")
def their_run(originals, tmp_path_factory):
    """The folder of a run of somebody else, whose notebook 01 is done, with its data."""
    folder = tmp_path_factory.mktemp("theirs")
    shutil.copytree(originals, folder / "root" / "walk")
    shutil.rmtree(folder / "root" / "walk" / "fused")
    settings = dict(scenes_train=0, threads=1)
    data_stage(open_run("quick", str(folder / "root"), str(folder / "run"), **settings))
    shutil.copytree(folder / "run" / "01_data", folder / "run" / "02_fusion_network")
    return folder


def edited(change, name="manifest.json"):
    """A record of the run with a change, and with the right fingerprint."""

    def make(folder):
        path = folder / "01_data" / name
        record = json.loads(path.read_text())
        change(record)
        if name == "manifest.json":
            record["fingerprint"] = _fingerprint(record)
        path.write_text(json.dumps(record))

    return make


def first(**values):
    return edited(lambda record: (record["test"] or record["train"])[0].update(values))


def damaged(name, data):
    return lambda folder: ((folder / name).unlink(), content(data)(folder / name) if isinstance(data, bytes | str)
                           else data(folder / name))  # fmt: skip


OUT = "found one that leads out of it or cannot be a name"
#: {what is in a run of somebody else: (how it is made, words)}
THEIRS = {
    "a name that leads out": (first(name="../../escaped"), OUT),
    "a data set that leads out": (first(dataset="../../escaped"), OUT),
    "an absolute source": (first(ir="/etc/hostname", visible="/etc/hostname"), OUT),
    "a source that leads out": (first(ir="../../../../etc/hostname"), OUT), "a long name": (first(name="x" * 300), OUT),
    "a null byte": (first(name="a\0b"), OUT), "half a character": (first(name="a\ud800"), OUT),
    "a null entry": (edited(lambda r: r["train"].insert(0, None)), "must be object"),
    "NaN boxes": (first(boxes=[[float("nan")] * 4], classes=["person"]), "finite numbers"),
    "boxes of text": (first(boxes="abc"), "must be array or null"),
    "boxes without classes": (first(boxes=[[1, 2, 3, 4]], classes=[]), "one class for each box"),
    "no name": (edited(lambda r: r["train"][0].pop("name")), "['name']"),
    "no pairs": (edited(lambda r: r.update(train=[], test=[])), "edited or incomplete"),
    "an edited manifest": (damaged("01_data/manifest.json", '{"train": [], "test": [], "fingerprint": "x"}'), "edited"),
    "no UTF-8": (damaged("01_data/manifest.json", b'{"\xff": 1}'), "utf-8"),
    "a deep manifest": (damaged("01_data/manifest.json", DEEP), "nested too deeply"),
    "half a manifest": (damaged("01_data/manifest.json", '{"train": ['), "cannot be read"),
    "a pipe": (damaged("01_data/manifest.json", os.mkfifo), NOT_REGULAR),
    "a device": (damaged("01_data/manifest.json", link("/dev/zero")), NOT_REGULAR),
    "6 GB": (damaged("01_data/manifest.json", sparse(6 << 30)), "6442 MB"),
    "a numeric profile": (edited(lambda r: r.update(profile=5), "provenance.json"), "profile must be object"),
    "no record": (edited(lambda r: r.clear(), "provenance.json"), "must contain"),
    "a record that is a list": (damaged("01_data/provenance.json", "[]"), "must be object"),
    "a record in a pipe": (damaged("01_data/provenance.json", os.mkfifo), NOT_REGULAR),
    "a fingerprint that leads out": (edited(lambda r: r.update(fingerprint="../../x"), "provenance.json"), "pattern"),
    "a numeric root": (edited(lambda r: r.update(data_root=5), "provenance.json"), "data_root must be string"),
}  # fmt: skip


@pytest.mark.parametrize("kind", THEIRS)
def test_a_run_of_somebody_else_is_checked_before_it_is_used(their_run, tmp_path, monkeypatch, capfd, kind):
    """By `train`, which writes into it, and by the viewer, which shows it."""
    make, words = THEIRS[kind]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(their_run / "run", "run")
    make(Path("run"))
    before = sorted(map(str, tmp_path.parent.glob("*")))
    code, said = run(f"train 02 --data-root {their_run / 'root'} --out run {SETTINGS}", capfd)
    assert code == 1 and words in said.replace("\\\\", "\\"), said
    if kind not in ("a pipe", "a device", "a record in a pipe"):  # of which the viewer shows the pictures alone
        with pytest.raises(FusionError):
            fl.browse("run")
    assert sorted(map(str, tmp_path.parent.glob("*"))) == before


@pytest.mark.parametrize(("kind", "damage"), [
    ("text", content("hi" * 1000)), ("pipe", os.mkfifo), ("device", link("/dev/zero")), ("folder", Path.mkdir),
    ("circular link", in_a_circle), ("full device", link("/dev/full")),
])  # fmt: skip
def test_a_store_that_is_none(here, capfd, kind, damage):
    (here / "store").mkdir()
    damage(here / "store" / "answers.sqlite")
    code, said = run(COMMANDS["ask"], capfd)
    assert code == 1 and "store/answers.sqlite should be a store of answers, but cannot be used" in said


@pytest.mark.parametrize(("statement", "words"), [
    ("UPDATE answers SET text = CAST(x'ff' AS TEXT)", "cannot be used"),
    ("UPDATE answers SET tokens = 'many'", "tokens of one is damaged"),
    ("UPDATE answers SET file = '../../x'", "file of one is damaged"),
    ("CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM answers; END", "has trigger t"),
    ("ALTER TABLE answers ADD COLUMN more", "should have the columns"),
    ("ALTER TABLE answers RENAME TO others; CREATE VIEW answers AS SELECT * FROM others", "answers alone"),
])  # fmt: skip
def test_a_store_of_somebody_else(here, capfd, statement, words):
    import sqlite3

    assert run(COMMANDS["ask"], capfd)[0] == 0
    connection = sqlite3.connect("store/answers.sqlite")
    connection.executescript(statement)
    connection.close()
    code, said = run(COMMANDS["ask"], capfd)
    assert code == 1 and words in said


NOTEBOOKS = {
    "version 2": ('{"nbformat": 2}', 3), "version 99": ('{"nbformat": 99, "metadata": {}, "cells": []}', 3),
    "version 3": ('{"nbformat":3,"nbformat_minor":0,"metadata":{},"worksheets":[{"cells":[],"metadata":{}}]}', 0),
    "a list": ("[]", 3), "deep": (DEEP, 3), "no UTF-8": (b'{"\xff"}', 3), "empty": (b"", 3), "pipe": (os.mkfifo, 3),
    "device": (link("/dev/zero"), 3), "6 GB": (sparse(6 << 30), 3), "folder": (Path.mkdir, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOTEBOOKS)
def test_a_report_of_somebody_elses_notebooks(tmp_path, monkeypatch, capfd, kind):
    data, expected = NOTEBOOKS[kind]
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    (content(data) if isinstance(data, bytes | str) else data)(Path("run/02_fusion_network.ipynb"))
    Path("run/01_data.ipynb").write_text('{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[]}')
    code, said = run("report --run run --out pages", capfd)
    assert code == expected and ("not shown: 1" in said and "02_fusion_network.ipynb" in said) == (code == 3)
    assert Path("pages/index.html").is_file() and Path("pages/01_data.html").is_file()


WHOLE, AT_LEAST_1, TYPE, ONE_OF = "must be a whole number", "must be at least 1 and finite", "must be of type", "one of"
#: {setting of a run: words with which it is refused}
REFUSED = {
    "fusion_epochs=1e999": TYPE, "fusion_epochs=nan": TYPE, "fusion_epochs=inf": TYPE, "fusion_epochs=2.7": WHOLE,
    "fusion_epochs=-1": AT_LEAST_1, "fusion_epochs=0": AT_LEAST_1, "fusion_epochs=banana": TYPE, "fusion_epochs=": TYPE,
    "fusion_epochs=True": TYPE, "fusion_epochs=[1]": TYPE, "fusion_epochs=1e30": "must be at most 2147483647",
    "fusion_epochs=" + "9" * 400: "must be at most", "fusion_epochs=" + "(" * 5000: TYPE,
    "fusion_epochs=" + "[" * 100_000: TYPE, "fusion_epochs=" + "-" * 5000 + "1": TYPE, "fusion_epochs=\0": TYPE,
    "fusion_lr=nan": "at least 0 and finite", "fusion_lr=1e999": "at least 0 and finite", "fusion_lr=-1": "at least 0",
    "fusion_lr=1j": TYPE, "methods=banana": "no method 'banana'", "methods=[1]": "a list of names",
    "train_peers=banana": "no method 'banana'", "channels=abc": "3 whole numbers", "channels=4": "3 whole numbers",
    "channels=0,0,0": "numbers from 1", "channels=-1,8,8": "numbers from 1", "channels=10**9,1,1": "3 whole numbers",
    "channels=1.5,2,3": "3 whole numbers", "amp=banana": ONE_OF, "amp=[]": ONE_OF, "amp=\x1b[2J\x07": ONE_OF,
    "schedule=banana": ONE_OF, "variant=banana": ONE_OF, "backend=banana": ONE_OF, "views=banana": ONE_OF,
    "fusion_loss=banana": ONE_OF, "fusion_init=banana": ONE_OF, "fusion_merge=banana": ONE_OF, "detector=[1]": TYPE,
    "detect_size=0,0": "numbers from 1", "detect_size=33,64": "multiples of 32", "seed=-1": "at least 0",
    "seed=1e30": "at most", "threads=1000000": "at most 1024", "workers=1e9": "at most 1024",
    "fusion_crop=1e12": "at most",
    "restoration_fraction=2": "at most 1", "fusion_balanced=banana": TYPE, "backend_options=banana": "key=value",
    "ir=[1]": TYPE, "question=[1]": TYPE, "banana=1": "no notebook has the parameter banana", "=1": "no notebook has",
    "banana": "key=value", "name=x": "no notebook has the parameter name",
}  # fmt: skip


@pytest.mark.parametrize("setting", REFUSED, ids=lambda text: repr(text[:40]))
def test_a_setting_is_refused_before_anything_runs(tmp_path, monkeypatch, capfd, setting):
    monkeypatch.chdir(tmp_path)
    code, said = run(["run", "--only", "01", "--out", "out", "--set", setting], capfd)
    assert code == 1 and REFUSED[setting] in said and not os.listdir() and len(said) < 1500
    key, _, value = setting.partition("=")
    if key in vars(PROFILES["quick"]) and key != "name" and value:  # the parameters cell of a notebook
        with pytest.raises(FusionError):
            open_run("quick", "", "out", **overrides({"out": "out", **fl.config.parse_settings([setting])}))
        assert not os.listdir()


@pytest.mark.parametrize(("command", "words"), [
    ("train 02 --out out --set amp=banana", ONE_OF), ("train 04 --out out --set dfh_epochs=2.7", WHOLE),
    ("train-peer DATFuse --ir ir --visible vi --out out/w.safetensors --set learning_rate=nan", "at least 0"),
    ("train-peer DATFuse --ir ir --visible vi --out out/w.safetensors --set batch=2.7", WHOLE),
    ("train-peer DATFuse --ir ir --visible vi --out out/w.safetensors --set crop=1e12", "at most"),
    ("train-peer DATFuse --ir ir --visible vi --out out/w.safetensors --steps 0", AT_LEAST_1),
    ("train-peer ../x --ir ir --visible vi", "no recipe to train '../x'"), ("train-detector --out out", ".safetensors"),
    ("ask --images ir --store out --backend none --set dim=1e9", "at most"),
    ("ask --images ir --store out --backend none --set dim=nan", TYPE),
    ("ask --images ir --store out --backend server --set url=http://localhost:1/v1 model=m timeout=1e999", "finite"),
    ("ask --images ir --store out --backend server --set url=http://localhost:1/v1 model=m max_tokens=many", TYPE),
    ("ask --images ir --store out --backend server --set url=http://localhost:1/v1 model=m retries=1e9", "at most 100"),
    ("ask --images ir --store out --backend shuffled --set of=[1]", "a back end or its name"),
    ("ask --images ir --store out --backend banana", ONE_OF), ("app ir --port 99999", "from 0 to 65535"),
    ("fuse --ir ir --visible vi --out out --ir-range nan,1", "two numbers"),
    ("fuse --ir ir --visible vi --out out --ir-range 1e999,2", "two numbers"),
    ("fuse --ir ir --visible vi --out out --align banana", ONE_OF),
    ("fuse --ir ir --visible vi --out out --device meta", "one that this machine has"),
    ("data check . --json .", "Is a directory"), ("data check . --json /", "Is a directory"),
    ("metrics --fused fused --ir ir --visible vi --names FID", "Unknown metric"),
    ("run --profile ../x --out out", "profile must be one of"), ("report --run nowhere --out out", "found none"),
])  # fmt: skip
def test_an_option_is_refused_before_anything_is_written(here, capfd, command, words):
    code, said = run(command, capfd)
    assert code == 1 and words in said and not Path("out").exists()


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def shared_modules(levels):
    module = torch.nn.Module()
    for _ in range(levels):
        around = torch.nn.Module()
        around.a = around.b = module
        module = around
    return saved({"model": module})


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def in_circles():
    content = {}
    content["state_dict"] = content
    return saved(content)


def compressed():
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("a/data.pkl", b"\x80\x02N." + bytes(50 << 20))
        parts.writestr("a/version", "3")
    return buffer.getvalue()


WEIGHTS = {
    "60 levels of shared modules.pt": lambda: shared_modules(60), "a circle.pt": in_circles,
    "code.pt": lambda: saved(Runs()),
    "a huge tensor.pt": lambda: saved({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}), "compressed.pt": compressed,
    "a list.pt": lambda: saved([1]), "text.pt": lambda: b"text", "empty.pt": lambda: b"",
    "no header.safetensors": lambda: (1 << 62).to_bytes(8, "little") + b"{}", "empty.safetensors": lambda: b"",
    "a deep header.safetensors": lambda: len(DEEP).to_bytes(8, "little") + DEEP,
    "others.safetensors": lambda: save({"a": torch.zeros(1)}),
    "inf.safetensors": lambda: save({"a": torch.ones(1) / 0}),
}  # fmt: skip


@pytest.mark.parametrize("command", ["LRRNet --vgg", "TextIF --text"])
@pytest.mark.parametrize("kind", [*WEIGHTS, "pipe.pt", "device.pt"])
def test_weights_of_somebody_else(here, capfd, kind, command):
    path = here / kind.replace(" ", "-")
    make = {"pipe.pt": os.mkfifo, "device.pt": link("/dev/zero")}.get(kind) or content(WEIGHTS[kind]())
    make(path)
    code, said = run(f"train-peer {command} {path} --ir ir --visible vi --steps 1 --out out/w.safetensors", capfd)
    assert code == 1 and str(path) in said and not Path("ran").exists() and not Path("out/w.safetensors").exists()


#: {what is in the place of an output: (how it is made, words)}
PLACES = {
    "pipe": (os.mkfifo, "cannot be written"), "file": (content("mine"), "cannot be written"),
    "circular link": (in_a_circle, "cannot be written"), "device": (link("/dev/zero"), "cannot be"),
}  # fmt: skip


@pytest.mark.parametrize("command", [
    COMMANDS["fuse"], "run --only 01 --out out", f"train 02 --out out {SETTINGS}",
    "ask --images ir --store out --backend none",
    "train-peer DATFuse --ir ir --visible vi --steps 1 --out out/w.safetensors", "export --out out/n.pt2",
    "metrics --fused fused --ir ir --visible vi --names AG --out out/t.csv", "data check . --json out/t.json",
])  # fmt: skip
@pytest.mark.parametrize("kind", PLACES)
def test_a_folder_that_cannot_be_written_into(here, capfd, monkeypatch, kind, command):
    make, words = PLACES[kind]
    make(here / "out")
    before = os.lstat("out")
    if command.startswith("export"):  # which takes ten seconds, and then looks for the place
        monkeypatch.setattr("fusionlib.inference.export.WRITERS", {".pt2": lambda model, path: path.touch() or model})
    code, said = run(command, capfd)
    assert code == 1 and (words in said or "cannot be used" in said)
    assert (os.lstat("out").st_ino, os.lstat("out").st_mode) == (before.st_ino, before.st_mode)
    assert kind != "file" or Path("out").read_text() == "mine"


@pytest.mark.parametrize("option", [
    "metrics --fused fused --ir ir --visible vi --names AG --out t.csv", "data check . --json t.csv",
    "fuse --ir ir/1.png --visible vi/1.png --out t.png",
])  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "null device", "full device", "folder"])
def test_a_file_that_cannot_be_written(here, capfd, kind, option):
    place = here / ("t.png" if option.startswith("fuse") else "t.csv")
    {"pipe": os.mkfifo, "null device": link("/dev/null"), "full device": link("/dev/full"),
     "folder": Path.mkdir}[kind](place)  # fmt: skip
    before = os.lstat(place)
    code, said = run(option, capfd)
    if kind == "folder" and option.startswith("fuse"):
        assert code == 0 and os.listdir(place) == ["1.png"]
    else:
        assert code == 1 and place.name in said
    assert (os.lstat(place).st_ino, os.lstat(place).st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/null"])
def test_devices_of_the_system_are_not_replaced(here, capfd, place):
    """Which root could do: stdout may be a regular file."""
    before = os.lstat(place).st_ino
    code, said = run(f"data check . --json {place}", capfd)
    assert code == 1 and f"{place}: expected a place for a file, found" in said and os.lstat(place).st_ino == before


def record(path, frames=3, rate=10, size=(WIDTH, HEIGHT), seed=0):
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*("mp4v" if path.endswith("mp4") else "MJPG")), rate, size)
    for number in range(frames):
        writer.write(cv2.resize(smooth(seed + number, 3), size))
    writer.release()


def stated(rate):
    """Two videos, of which the visible one states another rate."""

    def make():
        record("ir.avi")
        record("vis.avi")
        data = bytearray(Path("vis.avi").read_bytes())
        struct.pack_into("<II", data, data.find(b"strh") + 28, 1, rate)
        struct.pack_into("<I", data, data.find(b"avih") + 8, max(1, 10**6 // rate))
        Path("vis.avi").write_bytes(data)

    return make


def sized(*size):
    return lambda: [record(f"{name}.avi", 1, size=size) for name in ("ir", "vis")]


def script(text):
    """A list of other files, by the name of a video."""

    def make():
        record("vis.mp4")
        record("secret.mp4")
        Path("ir.mp4").write_text(text)

    return make


def named(name, **options):
    def make():
        record("vis.mp4", **options)
        record("ir.mp4", **options)
        os.rename("ir.mp4", name)

    return make


def instead(make):
    def both():
        record("vis.mp4")
        make(Path("ir.mp4"))

    return both


NO_FRAME = "expected a video that OpenCV can decode, found no frame"
#: {what: (how two videos are made, their names, exit code, words)}
VIDEOS = {
    "ffconcat": (script("ffconcat version 1.0\nfile secret.mp4\n"), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "playlist": (script("#EXTM3U\n#EXTINF:1,\nsecret.mp4\n"), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "stream description": (script("v=0\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n"), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "png": (instead(content(png(8, 8))), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "text": (instead(content("no video")), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "empty": (instead(content(b"")), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "6 GB of nothing": (instead(sparse(6 << 30)), "ir.mp4 vis.mp4", 1, NO_FRAME),
    "pipe": (instead(os.mkfifo), "ir.mp4 vis.mp4", 1, NOT_REGULAR),
    "device": (instead(link("/dev/zero")), "ir.mp4 vis.mp4", 1, NOT_REGULAR),
    "a protocol's name": (named("concat:a.mp4"), "concat:a.mp4 vis.mp4", 0, "1 fused"),
    "a pattern's name": (named("x%02d.mp4"), "x%02d.mp4 vis.mp4", 0, "1 fused"),
    "a long name": (named("y" * 250 + ".mp4"), "y" * 250 + ".mp4 vis.mp4", 0, "1 fused"),
    "no UTF-8": (named(os.fsdecode(b"a\xff.mp4")), os.fsdecode(b"a\xff.mp4 vis.mp4"), 1, "a name in UTF-8"),
    "controls": (named("a\x1b[2J\x07.mp4"), "a\x1b[2J\x07.mp4 vis.mp4", 0, "1 fused"),
    "90000 frames per second": (stated(90000), "ir.avi vis.avi", 0, "vis.avi states no rate that a camera has: 25"),
    "2^32 frames per second": (stated(2**32 - 1), "ir.avi vis.avi", 0, "vis.avi states no rate that a camera has: 25"),
    "30 frames per second": (stated(30), "ir.avi vis.avi", 0, "vis.avi 30: each visible frame"),
    "9000x16": (sized(9000, 16), "ir.avi vis.avi", 1, "MPEG-4 can hold"),
    "1x1": (sized(1, 1), "ir.avi vis.avi", 1, "MPEG-4 can hold"),
    "33x17": (sized(33, 17), "ir.avi vis.avi", 0, "1 fused"),
}  # fmt: skip


@pytest.mark.parametrize("kind", VIDEOS)
def test_odd_videos(tmp_path, monkeypatch, capfd, kind):
    make, names, expected, words = VIDEOS[kind]
    monkeypatch.chdir(tmp_path)
    make()
    infrared, visible = names.split()
    code, said = run(["fuse", "--ir", infrared, "--visible", visible, "--out", "out"], capfd)
    assert code == expected and words in said, said
    made = list(Path("out").glob("*")) if Path("out").is_dir() else []
    assert [path.name for path in made] == ["vis.mp4"] * (code == 0)
    if made:
        assert cv2.VideoCapture(str(made[0])).read()[0]


def test_a_full_disk_is_no_success(here):
    """Of images and of a video: nothing that was begun stays, and the next call is not told that all is done."""
    record("ir.mp4", 12, size=(320, 240))
    record("vis.mp4", 12, size=(320, 240), seed=5)
    program = f"""
import os, resource
from fusionlib.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # the system refuses more, as it does on a full disk
for command in {["fuse --ir ir.mp4 --visible vis.mp4 --out out", COMMANDS["fuse"]]!r}:
    print(main(command.split()), os.listdir("out"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert done.stdout == "1 []\n" * 2 and "Traceback" not in done.stderr, done
    assert "0 of 12 frames can be read back" in done.stderr and "(File too large)" in done.stderr


def test_output_in_a_narrow_encoding(here):
    """As that of redirected output on Windows; others are in the tests of `utils.terminal`."""
    for folder in ("ir", "vi", "fused"):
        (here / folder / "2.png").rename(here / folder / "夜 ∞.png")
    (here / "ir" / "夜 ∞.png").write_bytes(b"no image")
    code, out, error = ended(COMMANDS["metrics"], PYTHONIOENCODING="cp1252")
    assert code == 3 and b"Traceback" not in error and rb"\u591c \u221e.png: expected" in error and b"2 images" in out


def test_a_reader_that_has_seen_enough(here):
    """As `| head -c 1`: then the pipe is closed."""
    process = started(COMMANDS["metrics"])
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(50) == 141 and b"BrokenPipe" not in error and b"Traceback" not in error


@pytest.mark.parametrize(("command", "place", "expected"), [
    ("--help", "closed pipe", 141), ("fuse --help", "closed pipe", 141), ("", "closed pipe", 141),
    ("--version", "closed pipe", 141), ("--help", "full disk", 1), ("--version", "full disk", 1),
    ("fuse --banana", "closed pipe", 2),
])  # fmt: skip
def test_the_help_ends_as_other_output_does(monkeypatch, command, place, expected):
    """Where the first byte cannot be written; in one process, and the interpreter's own flush finds nothing more."""
    if place == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["fusionlib", *command.split()])
        assert main() == expected


def test_an_interrupt_is_a_sentence_and_what_is_done_is_kept(here):
    for number in range(4, 400):
        for folder in ("ir", "vi"):
            shutil.copy(here / folder / "1.png", here / folder / f"{number}.png")
    process = started(COMMANDS["fuse"])
    while process.poll() is None and not list(Path("out").glob("[0-9]*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=50)
    assert b"interrupted: what is finished is kept" in error and b"Traceback" not in error
    assert process.returncode in (130, -signal.SIGINT) and all(read_image(path).any() for path in Path("out").iterdir())


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_images_are_upright_everywhere(here, capfd, suffix, turn):
    upright = smooth(7, 3)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: upright[:, ::-1].swapaxes(0, 1), 7: upright[::-1, ::-1].swapaxes(0, 1),
              8: upright[::-1].swapaxes(0, 1)}[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    how = {".jpg": {"quality": 98, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    for folder in ("ir", "vi", "fused"):
        for path in (here / folder).iterdir():
            path.unlink()
        write_image(here / folder / "a.png", upright[..., 1])
    (here / "vi" / "a.png").unlink()
    Image.fromarray(np.ascontiguousarray(stored)).save(here / "vi" / f"a{suffix}", exif=exif, **how)
    code, said = run(COMMANDS["check"], capfd)
    assert code == 0 and f" {WIDTH}x{HEIGHT} " in said
    assert run(COMMANDS["fuse"], capfd)[0] == 0 and run(COMMANDS["metrics"], capfd)[0] == 0
    expected = fl.fuse(upright[..., 1], upright)
    assert np.abs(read_image("out/a.png").astype(int) - expected).mean() < 2


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak memory is told by Linux")
def test_the_peak_memory_of_all_hostile_images_and_labels(here):
    """In one process, command after command: below 1.5 GB, of which torch alone takes 0.4."""
    for number, (make, _) in enumerate(NO_FILES.values()):
        for folder in ("ir", "vi", "fused"):
            make(here / folder / f"odd{number}.png")
    (here / "labels").mkdir()
    for number, (make, _) in enumerate(LABELS.values()):
        make(here / "labels" / f"{number}{('.txt', '.json', '.xml')[number % 3]}")
    program = f"""
from fusionlib.__main__ import main
for command in {[*COMMANDS.values(), "data check --ir ir --visible vi --labels labels"]!r}:
    print("code", main(command.split()))
print("peak", *(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["code"]] == ["3"] * 5, done.stderr
    assert int(lines[-1][1]) * 1024 < 1.5e9, lines[-1]


@pytest.mark.timeout(120)
def test_a_notebook_names_the_odd_files_of_a_data_root(here, capfd):
    """Notebook 01 by `run`, as a user would."""
    os.makedirs("root/walk")
    for folder in ("ir", "vi"):
        shutil.move(here / folder, here / "root" / "walk" / folder)
    for number, kind in enumerate(("pipe", "endless device", "png of 10^9 pixels", "6 GB of nothing")):
        for folder in ("ir", "vi"):
            NO_FILES[kind][0](here / "root" / "walk" / folder / f"odd{number}.png")
    code, out, error = ended(f"run --only 01 --data-root root --out out {SETTINGS} detection_datasets=walk")
    assert code == 0 and b"Traceback" not in error, out + error
    shown = (here / "out" / "01_data.ipynb").read_text(encoding="utf-8")
    assert all(f"odd{number}.png: " in shown for number in range(4))
