import json
import os
import pickle
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusionlib.detection import YOLOv5, load_detector, load_yolov5, save_yolov5
from fusionlib.utils.errors import FusionError
from fusionlib.utils.tensors import serialise


@pytest.fixture
def model():
    return YOLOv5(2, depth=0.5, width=0.125, anchors=torch.arange(1.0, 19) * 3, names=["person", "car"]).eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_safetensors_round_trip(model, tmp_path):
    save_yolov5(model, tmp_path / "new" / "weights.safetensors")
    loaded = load_yolov5(tmp_path / "new" / "weights.safetensors")
    assert same(model, loaded) and not loaded.training
    assert loaded.names == ["person", "car"] and torch.equal(loaded.anchors, model.anchors)


@pytest.mark.parametrize("depth", [0.1, 0.33, 0.5, 0.67, 0.8, 1, 1.33])
@pytest.mark.parametrize("width", [0.125, 0.25])
def test_size_comes_from_the_shapes(tmp_path, depth, width):
    model = YOLOv5(1, depth, width)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    assert same(model, load_yolov5(tmp_path / "bare.pt"))


def test_half_safetensors(model, tmp_path):
    save_yolov5(model, tmp_path / "half.safetensors", half=True)
    loaded = load_yolov5(tmp_path / "half.safetensors")
    assert loaded.model[0].conv.weight.dtype == torch.float32
    assert torch.equal(loaded.model[0].conv.weight, model.model[0].conv.weight.half().float())
    parameters = sum(p.numel() for p in model.parameters())
    assert (tmp_path / "half.safetensors").stat().st_size < 2.2 * parameters


def test_plain_state_dicts(tmp_path):
    model = YOLOv5(80, 0.33, 0.125)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    loaded = load_yolov5(tmp_path / "bare.pt")
    assert same(model, loaded) and loaded.names[0] == "person" and loaded.names[79] == "toothbrush"
    torch.save({"state_dict": YOLOv5(3, width=0.125).half().state_dict(), "names": {0: "a", 1: "b", 2: "c"}},
               tmp_path / "wrapped.pt")
    loaded = load_yolov5(tmp_path / "wrapped.pt")
    assert loaded.names == ["a", "b", "c"] and loaded.anchors.dtype == torch.float32


def test_whole_pickled_model(model, tmp_path):
    """As the official training saves it: the object itself, of classes that the reader does not have."""
    torch.save({"epoch": 3, "model": None, "ema": model, "optimizer": None, "opt": os.path}, tmp_path / "best.pt",
               pickle_module=_ModulesByName)
    loaded = load_yolov5(tmp_path / "best.pt")
    assert loaded.names == model.names
    assert torch.equal(loaded.model[23].cv3.bn.running_var, model.model[23].cv3.bn.running_var)


class _ModulesByName:
    """A pickle module that can also store a Python module, as some checkpoints of the official training hold a path."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            return (__import__, (obj.__name__,)) if isinstance(obj, type(os)) else NotImplemented

    dump, dumps, load, loads, Unpickler = pickle.dump, pickle.dumps, pickle.load, pickle.loads, pickle.Unpickler


def test_official_checkpoint(shared):
    official = load_yolov5(shared / "weights" / "yolov5n.pt")
    plain = load_yolov5(shared / "weights" / "yolov5n_state_dict_fp16.pt")
    assert official.num_classes == 80 and official.names == plain.names
    assert official.names[:3] == ["person", "bicycle", "car"]
    assert official.anchors[2].tolist() == [[116, 90], [156, 198], [373, 326]]
    assert all(p.dtype == torch.float32 for p in official.parameters()) and not official.training
    image = torch.rand(1, 3, 128, 160)
    with torch.no_grad():
        for a, b in zip(official(image), plain(image)):
            assert (a - b).abs().max() < 2e-2


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, subprocess.getoutput, eval, exec])
@pytest.mark.parametrize("place", ["alone", "beside", "inside"])
def test_hostile_pickle_does_not_run(tmp_path, model, function, place):
    trace = tmp_path / "trace"
    code = f"touch {trace}" if function in (os.system, subprocess.getoutput) else f"open({str(trace)!r}, 'w')"
    attack = Attack(function, code)
    content = {"alone": attack, "beside": {**model.state_dict(), "x": attack}, "inside": {"model": attack}}[place]
    torch.save(content, tmp_path / "hostile.pt")
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert trace.exists()  # the attack works where pickled code is run
    trace.unlink()
    if function is os.system or place != "beside":
        with pytest.raises(FusionError, match=r"hostile\.pt"):
            load_yolov5(tmp_path / "hostile.pt")
    else:  # the weights are sound, the call is left out
        assert same(model, load_yolov5(tmp_path / "hostile.pt"))
    assert not trace.exists()


def test_bad_files(tmp_path, model):
    def fails(path, message):
        with pytest.raises(FusionError, match=message) as error:
            load_yolov5(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    fails(tmp_path / "missing.pt", "no such file")
    (tmp_path / "empty.pt").touch()
    fails(tmp_path / "empty.pt", "cannot be read safely")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    fails(tmp_path / "text.pt", "cannot be read safely")

    torch.save(model.state_dict(), tmp_path / "whole.pt")
    save_yolov5(model, tmp_path / "whole.safetensors")
    for name in ("whole.pt", "whole.safetensors"):
        cut = tmp_path / f"cut_{name}"
        shutil.copy(tmp_path / name, cut)
        os.truncate(cut, 100_000)
        fails(cut, "cannot be read safely|damaged")

    torch.save(nn.Conv2d(3, 4, 1).state_dict(), tmp_path / "other.pt")
    fails(tmp_path / "other.pt", "another network")
    torch.save([1, 2], tmp_path / "list.pt")
    fails(tmp_path / "list.pt", "another network")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    fails(tmp_path / "other.safetensors", "another network")
    state = model.state_dict()
    del state["model.3.conv.weight"]
    torch.save(state, tmp_path / "incomplete.pt")
    fails(tmp_path / "incomplete.pt", "does not fit: .*model.3.conv.weight")


@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov8n.yaml"])
def test_anchor_free_networks(tmp_path, name):
    from ultralytics.nn.tasks import DetectionModel

    torch.save({"model": DetectionModel(name, nc=1, verbose=False)}, tmp_path / "free.pt")
    with pytest.raises(FusionError, match=r"free\.pt.*anchor-free"):
        load_yolov5(tmp_path / "free.pt")


def nested(levels, names, module):
    """A module in modules, in each under all these names."""
    for _ in range(levels):
        outer = nn.Module()
        for name in names:
            outer.add_module(name, module)
        module = outer
    return module


@pytest.mark.timeout(60)
@pytest.mark.parametrize("whole", [True, False])
def test_modules_that_share_modules_end(tmp_path, whole):
    """2^60 names of one convolution."""
    module = nested(60, "ab", nn.Conv2d(1, 1, 1))
    torch.save({"model": module} if whole else module, tmp_path / "shared.pt")
    for read in (load_yolov5, load_detector):
        with pytest.raises(FusionError, match=r"shared\.pt.*has more than 10000 modules"):
            read(tmp_path / "shared.pt")


@pytest.mark.timeout(60)
def test_a_module_in_itself_ends(tmp_path):
    module = nn.Module()
    module._modules["again"] = module
    torch.save(module, tmp_path / "loop.pt")
    with pytest.raises(FusionError, match="has more than 10000 modules"):
        load_yolov5(tmp_path / "loop.pt")


def test_a_shared_module_has_all_its_names(model, tmp_path):
    """As the state dict has them: its second name comes from an object that is the first one's, too."""
    model.model[2].m = nn.ModuleList([model.model[2].m[0]] * 2)
    model.model[4].m = nn.ModuleList([model.model[4].m[0]] * 3)
    torch.save({"model": model}, tmp_path / "shared.pt")
    loaded = load_yolov5(tmp_path / "shared.pt").state_dict()
    assert list(loaded) == list(model.state_dict()) and same(model, load_yolov5(tmp_path / "shared.pt"))


HEAD, MIDDLE, ANCHORS = "model.24.m.0.weight", "model.9.cv2.conv.weight", "model.24.anchors"


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("key", "change"), [
    (HEAD, lambda t: t[0, 0, 0, 0]), (HEAD, lambda t: t[:0]), (HEAD, lambda t: t[:3]), (MIDDLE, lambda t: t[0, 0, 0]),
    (HEAD, lambda t: t[:1, :1].expand(3 * 10**9, 1, 1, 1)), (MIDDLE, lambda t: t[:1, :1].expand(10**7, 1, 1, 1)),
    (MIDDLE, lambda t: torch.zeros(10**5, 1, 1, 1)), (ANCHORS, lambda t: t * torch.nan), (HEAD, lambda t: t / 0),
    (HEAD, lambda t: t.to(torch.complex64)), (HEAD, lambda t: t.to_sparse()), (HEAD, lambda t: t.to("meta")),
    (ANCHORS, lambda t: t.to_sparse()), (HEAD, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
])  # fmt: skip
def test_tensors_of_somebody_else(model, tmp_path, key, change):
    state = model.state_dict()
    state[key] = change(state[key])
    torch.save(state, tmp_path / "odd.pt")
    for read in (load_yolov5, load_detector):
        with pytest.raises(FusionError, match=r"odd\.pt: expected") as error:
            read(tmp_path / "odd.pt")
        assert "\n" not in str(error.value)


@pytest.mark.timeout(60)
def test_more_blocks_than_any_network_has(model, tmp_path):
    state = model.state_dict()
    for module, count in ((2, 15), (4, 30), (6, 45)):
        state |= {f"model.{module}.m.{number}.x": torch.zeros(1) for number in range(count)}
    torch.save(state, tmp_path / "deep.pt")
    with pytest.raises(FusionError, match="its numbers of repeated blocks are those of no YOLOv5"):
        load_yolov5(tmp_path / "deep.pt")


@pytest.mark.parametrize("metadata", [None, 5, "x", [1]], ids=str)
def test_metadata_of_somebody_else(model, tmp_path, metadata):
    (tmp_path / "w.safetensors").write_bytes(serialise(model.state_dict(), {"yolov5": json.dumps(metadata)}))
    with pytest.raises(FusionError, match=r"w\.safetensors: expected"):
        load_yolov5(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("names", "found"), [
    (5, ["class 0", "class 1"]), ("ab", ["class 0", "class 1"]), ([], ["class 0", "class 1"]),
    ([None, 7], ["None", "7"]), ({"1": "a", "0": "b"}, ["a", "b"]), ({"a": {}, "b": [1]}, ["{}", "[1]"]),
], ids=str)  # fmt: skip
def test_names_of_somebody_else(model, tmp_path, names, found):
    state = model.state_dict()
    (tmp_path / "w.safetensors").write_bytes(serialise(state, {"yolov5": json.dumps({"names": names})}))
    torch.save({"state_dict": state, "names": names}, tmp_path / "w.pt")
    assert load_yolov5(tmp_path / "w.safetensors").names == load_yolov5(tmp_path / "w.pt").names == found


@pytest.mark.parametrize("names", [["a"], ["a"] * 3, {0: "a"}], ids=str)
def test_names_of_another_number(model, tmp_path, names):
    torch.save({"state_dict": model.state_dict(), "names": names}, tmp_path / "w.pt")
    with pytest.raises(FusionError, match="A YOLOv5 of 2 classes needs 2 names"):
        load_yolov5(tmp_path / "w.pt")
