"""Detectors in ONNX against plain computations with the network that was exported."""

import csv
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from test_detectors import network
from torch import nn

from fusionlib.data.datasets import letterbox, people
from fusionlib.data.layouts import read
from fusionlib.data.pairs import load
from fusionlib.data.splits import load_rules
from fusionlib.detection import detect, load_detector, measure, onnx_detector
from fusionlib.utils.errors import FusionError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter
SIZE = 64, 96


class Toy(nn.Module):
    """A YOLOX of one convolution per stride."""

    def __init__(self, classes=2, decoded=False):
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(3, 5 + classes, stride, stride) for stride in (8, 16, 32))
        self.decoded = decoded
        for conv in self.maps:
            conv.weight.data /= 255
            conv.weight.data *= torch.linspace(6, 30, 5 + classes).view(-1, 1, 1, 1)

    def forward(self, images):
        rows = []
        for conv, stride in zip(self.maps, (8, 16, 32)):
            raw = conv(images)
            raw = torch.cat((raw[:, :2], raw[:, 2:4].clamp(-2, 2), raw[:, 4:].sigmoid()), 1)
            if self.decoded:
                y, x = torch.meshgrid(*(torch.arange(side // stride) for side in SIZE), indexing="ij")
                centre = (raw[:, :2] + torch.stack((x, y))[None]) * stride
                raw = torch.cat((centre, raw[:, 2:4].exp() * stride, raw[:, 4:]), 1)
            rows.append(raw.flatten(2))
        return torch.cat(rows, 2).transpose(1, 2)


class First(nn.Module):
    """The first output of a network."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images)[0]


def export(model, path, size=SIZE, names=None, **options):
    torch.onnx.export(model.eval(), (torch.rand(1, 3, *size),), path, dynamo=False, **options)
    if names is not None:
        file = onnx.load(path)
        onnx.helper.set_model_props(file, {"names": names})
        onnx.save(file, path)
    return path


def overlap(a, b):
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def yolox(toy, image, conf, iou):
    """YOLOX as its authors describe it, written cell by cell: rows x1, y1, x2, y2, score, class, best first."""
    height, width = image.shape[1:]
    ratio = min(SIZE[0] / height, SIZE[1] / width)
    small = (round(width * ratio), round(height * ratio))
    canvas = np.full((*SIZE, 3), 114, np.float32)
    canvas[: small[1], : small[0]] = cv2.resize(image.permute(1, 2, 0).numpy()[..., ::-1] * 255, small)
    with torch.no_grad():
        output = toy(torch.from_numpy(canvas).permute(2, 0, 1)[None])[0].double().tolist()
    rows, at = [], 0
    for stride in (8, 16, 32):
        for y in range(SIZE[0] // stride):
            for x in range(SIZE[1] // stride):
                dx, dy, dw, dh, objectness, *classes = output[at]
                cx, cy, w, h = (x + dx) * stride, (y + dy) * stride, math.exp(dw) * stride, math.exp(dh) * stride
                box = [value / ratio for value in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]
                rows += [[*box, objectness * score, index] for index, score in enumerate(classes)]
                at += 1
    kept = []
    for row in sorted(rows, key=lambda row: -row[4]):
        if row[4] > conf and all(row[5] != other[5] or overlap(row, other) <= iou for other in kept):
            kept.append(row)
    clip = [lambda v, limit=limit: min(max(v, 0), limit) for limit in (width, height, width, height)]
    return torch.tensor([[*(f(v) for f, v in zip(clip, row)), *row[4:]] for row in kept])


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox_is_what_its_authors_describe(tmp_path, decoded):
    toy = Toy()
    plain, toy.decoded = Toy(), decoded
    plain.load_state_dict(toy.state_dict())
    detector = load_detector(export(toy, tmp_path / "toy.onnx", names="['car', 'Pedestrian']"))
    assert detector.layout == ("yolox decoded" if decoded else "yolox") and detector.size == SIZE
    for size in (SIZE, (150, 100), (33, 90), (20, 20)):  # as the input; larger, too high; smaller, too wide; square
        image = torch.rand(3, *size)
        expected = yolox(plain, image, 0.15, 0.5)
        found = detector.predict(image[None], 0.15, 0.5)[0]
        assert len(found) == len(expected) > 10 and set(found[:, 5].tolist()) == {0, 1}
        torch.testing.assert_close(found, expected.float(), atol=2e-3, rtol=1e-4)
        people, = detect(detector, [image], conf=0.15, iou=0.5)
        torch.testing.assert_close(people[:, :5], found[found[:, 5] == 1][:, :5])
        assert (people[:, 5] == 0).all()
    both = torch.rand(2, 3, 70, 80)
    together = detector.predict(both, 0.15)
    for image, found in zip(both, together):
        assert torch.equal(found, detector.predict(image[None], 0.15)[0])
    assert len(detector.predict(both, 0.15, max_det=4)[1]) == 4


@pytest.mark.parametrize(("name", "size"), [("yolov8n", (64, 96)), ("yolov10n", (128, 160))])
def test_exports_of_ultralytics(tmp_path, name, size):
    model = network(f"{name}.yaml", 3)
    model.model[-1].end2end = name == "yolov10n"  # an attribute, which some versions of ultralytics need
    path = export(First(model), tmp_path / "best.onnx", size, str(model.names), opset_version=17)
    detector, image = load_detector(path), torch.rand(3, size[0] * 2, size[1])  # twice as high: half the width is grey
    assert detector.names == ["thing 0", "thing 1", "person"]
    small = torch.full((1, 3, *size), 114 / 255)
    small[..., : size[1] // 2] = image[None, :, ::2, ::2].add(image[None, :, 1::2, ::2]).add(
        image[None, :, ::2, 1::2]).add(image[None, :, 1::2, 1::2]) / 4
    with torch.no_grad():
        raw = model.eval()(small)[0]
    conf = 0.3
    if name == "yolov10n":
        assert detector.layout == "end to end" and list(raw.shape) == [1, 300, 6]
        conf = raw[0, 100, 4].item() - 1e-3
        expected = raw[0][raw[0, :, 4] > conf]
    else:
        from ultralytics.utils.nms import non_max_suppression

        assert detector.layout == "ultralytics"
        expected = non_max_suppression(raw, conf, 0.5, multi_label=True)[0]
    expected[:, :4] = (2 * expected[:, :4]).clamp(min=0).minimum(torch.tensor([size[1], size[0] * 2] * 2))
    found = detector.predict(image[None], conf, 0.5)[0]
    assert len(found) == len(expected) > 5 and (found[:-1, 4] >= found[1:, 4]).all()
    distances = torch.cdist(found, expected, p=torch.inf)
    assert distances.min(0).values.max() < 0.01 and distances.min(1).values.max() < 0.01
    some = detector.predict(image[None], conf, 0.5, classes=[0, 2])[0]
    assert torch.equal(some, found[found[:, 5] != 1]) and len(detector.predict(image[None], conf, 0.5, 3)[0]) == 3


def test_names_without_metadata(tmp_path):
    coco = load_detector(export(Toy(80), tmp_path / "coco.onnx"))
    assert coco.names[0] == "person" and coco.names[79] == "toothbrush" and len(coco.names) == 80
    assert load_detector(export(Toy(1), tmp_path / "one.onnx")).names == ["class 0"]
    with pytest.raises(FusionError, match="knows class 0, not person"):
        detect(load_detector(tmp_path / "one.onnx"), [torch.rand(3, 64, 64)])


class Outputs(nn.Module):
    """A network with the given function as its head."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, images):
        return self.head(images)


def test_other_networks_are_refused(tmp_path):
    def fails(model, found, size=SIZE, **options):
        path = export(model, tmp_path / "other.onnx", size, **options)
        with pytest.raises(FusionError, match=f"other.onnx: expected a detector in ONNX.*found {found}.*: export it"):
            load_detector(path)

    fails(Outputs(lambda x: x.mean((2, 3))), r"the outputs \[1, 3\]")
    fails(Outputs(lambda x: x[:, 0]), r"an output \[1, 64, 96\] for an input \[1, 3, 64, 96\]")
    fails(Outputs(lambda x: (x.flatten(2), x[:, 0] * 2)), "the outputs .*, .*")
    fails(Outputs(lambda x: x.flatten(2)), r"the inputs \[1, 3, 60, 96\]", (60, 96))
    fails(Outputs(lambda x: x[:, :, :1, 0]), r"the inputs \[1, 3, 4096, 2048\]", (4096, 2048))  # which takes gigabytes
    fails(Toy(), r"the inputs \[1, 3, 0, 96\]", input_names=["x"], dynamic_axes={"x": {2: "height"}})
    fails(Toy(2), "2 classes with 3 names", names="['a', 'b', 'c']")
    trace = tmp_path / "trace"
    fails(Toy(2), "malformed node", names=f"[open({str(trace)!r}, 'w'), 'b']")
    assert not trace.exists()


def test_bad_files(tmp_path, monkeypatch):
    path, good = tmp_path / "bad.onnx", export(Toy(), tmp_path / "good.onnx").read_bytes()
    with pytest.raises(FusionError, match=r"bad\.onnx: expected a detector.*no such file; nothing is downloaded"):
        load_detector(path)
    for content in (b"", b"not a network", b"\x80" * 1000, good[: len(good) // 2], good[:-3], b"\x3a\xff\xff\xff\x7f"):
        path.write_bytes(content)
        with pytest.raises(FusionError, match=r"bad\.onnx: expected a detector in ONNX") as error:
            load_detector(path)
        assert "\n" not in str(error.value)
    os.truncate(path, onnx_detector._LARGEST)  # of zeros
    with pytest.raises(FusionError, match="found a damaged file"):
        load_detector(path)
    monkeypatch.setattr(onnx_detector, "_LARGEST", 100)
    with pytest.raises(FusionError, match=r"found .* MB, at most 0\.0001 are read"):
        load_detector(tmp_path / "good.onnx")
    with pytest.raises(FusionError, match="takes float RGB images"):
        monkeypatch.undo()
        load_detector(tmp_path / "good.onnx").predict(torch.zeros(1, 1, 64, 64))


def crafted(path, *nodes, **constants):
    """A network of one output for an image [1, 3, 64, 96], of nodes (type, inputs, output, attributes)."""
    helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    made = [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes]
    graph = helper.make_graph(
        made, "graph", [helper.make_tensor_value_info("x", FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 3, *SIZE])],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


ONE, HUGE, POOL = np.ones((1, 1, 1, 1), np.float32), [1, 1, 40000, 40000], {"kernel_shape": [2, 2], "strides": [2, 2]}
LARGEST = ("ReduceMax", ["e"], "m", {"keepdims": 0}), ("Add", ["x", "m"], "y", {})
#: Networks of some hundred bytes that would make 5 to 18 GB when they are read, or when they first run.
GREEDY = {
    "Expand": ([("Expand", ["c", "s"], "e", {}), *LARGEST], {"c": ONE, "s": HUGE}),
    "Expand of the image": ([("Expand", ["x", "s"], "y", {})], {"s": [80000, 3, *SIZE]}),
    "Tile": ([("Tile", ["c", "s"], "e", {}), *LARGEST], {"c": ONE, "s": HUGE}),
    "Tile of the image": ([("Tile", ["x", "s"], "y", {})], {"s": [1, 1, 500, 500]}),
    "Resize": ([("Resize", ["x", "", "", "s"], "e", {"mode": "nearest"}), ("MaxPool", ["e"], "y", POOL)],
               {"s": [1, 3, 25000, 25000]}),
    "Pad": ([("Pad", ["x", "s"], "e", {}), ("MaxPool", ["e"], "y", POOL)],
            {"s": [0, 0, 12500, 12500, 0, 0, 12500, 12500]}),
    "ConstantOfShape": ([("ConstantOfShape", ["s"], "e", {"value": onnx.numpy_helper.from_array(ONE.reshape(1))}),
                         *LARGEST], {"s": HUGE}),
    "ConvTranspose": ([("ConvTranspose", ["x", "w"], "y", {"strides": [300, 300]})],
                      {"w": np.ones((3, 1, 1, 1), np.float32)}),
    "MatMul": ([("Reshape", ["x", "s"], "a", {}), ("Transpose", ["a"], "b", {"perm": [0, 1, 3, 2]}),
                ("MatMul", ["a", "b"], "y", {})], {"s": [1, 1, 18432, 1]}),
    "many": ([("Expand", ["x", "s"], "e0", {}), *(("Sigmoid", [f"e{i}"], f"e{i + 1}", {}) for i in range(60)),
              ("Concat", [f"e{i}" for i in range(61)], "y", {"axis": 0})], {"s": [1000, 3, *SIZE]}),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is that of Linux")
@pytest.mark.timeout(400)
def test_a_small_file_takes_little_memory(tmp_path):
    """Each in one process, as a viewer's; then a detector is read as before, and the process ends as any other."""
    for number, (nodes, constants) in enumerate(GREEDY.values()):
        constants = {name: np.array(value, None if name in "cw" else np.int64) for name, value in constants.items()}
        crafted(tmp_path / f"{number}.onnx", *nodes, **constants)
    export(Toy(), tmp_path / "good.onnx")
    program = f"""
import cv2, resource
from fusionlib.detection import load_detector
from fusionlib.utils.allocator import keep_freed_memory
from fusionlib.utils.errors import FusionError
keep_freed_memory()  # as every command does
before = resource.getrlimit(resource.RLIMIT_DATA)
cv2.setNumThreads(500)  # whose stacks would take more than the limit
for number in range({len(GREEDY)}):
    try:
        load_detector(f"{{number}}.onnx")
    except FusionError as error:
        print(str(error).replace("\\n", "|"))
print(load_detector("good.onnx").layout, resource.getrlimit(resource.RLIMIT_DATA) == before, cv2.getNumThreads())
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""  # ru_maxrss would be that of the tests, from which the process was started, where that is more
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    *sentences, last, peak = done.stdout.splitlines()
    assert done.returncode == 0 and len(sentences) == len(GREEDY) and last == "yolox True 500", done
    for number, (kind, sentence) in enumerate(zip(GREEDY, sentences)):
        assert sentence.startswith(f"{number}.onnx: expected a detector in ONNX") and ": export it" in sentence
        assert "take more than 537 MB" in sentence, (kind, sentence)
    assert int(peak) * 1024 < 1.5e9


def test_yolox_nano_finds_people_as_measured_before(shared):
    """AP@.5 was .438 on the visible images, at 640x512, of 39 labelled pairs of scenes that are not for training."""
    weights, labelled = shared / "weights" / "yolox_nano.onnx", shared / "labelled"
    if not weights.is_file() or not labelled.is_dir():
        pytest.skip("yolox_nano.onnx or the labelled pairs are not in the development data")
    with (labelled / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rules = load_rules()
    seen = {row["scene"] for row in rows if row["name"] in rules["datasets"]["RoadScene"]["train"]}
    chosen = {row["name"] for row in rows if row["complete"] == "yes" and row["scene"] not in seen}
    pairs = [pair for pair in read(labelled).pairs if pair.name in chosen]
    assert len(pairs) == 39
    detector, size = load_detector(weights), (512, 640)
    assert (detector.layout, detector.size, len(detector.names)) == ("yolox", (416, 416), 80)
    found = detect(detector, (letterbox(load(pair)[1], size)[0] for pair in pairs))
    result = measure(found, [people(pair, size) for pair in pairs], heights={})
    assert result["boxes"] == 221 and result["mAP@.5"] == pytest.approx(0.438, abs=0.015)
