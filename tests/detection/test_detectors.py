import os

import pytest
import torch
from torch import nn

from fusionlib.detection import UltralyticsDetector, YOLOv5, detect, load_detector, load_yolov5
from fusionlib.training.detector import SCENE_DETECTOR
from fusionlib.utils.errors import FusionError


@pytest.fixture
def threads():
    """ultralytics' own prediction sets the threads of the whole process."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def network(name, classes=1, names=None):
    """An untrained network of ultralytics whose scores differ from place to place."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    model = DetectionModel(name, nc=classes, verbose=False).eval()
    model.names = names or {i: f"thing {i}" for i in range(classes - 1)} | {classes - 1: "person"}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.weight, 0.8, 1.6)
    for branch in ("cv3", "one2one_cv3"):
        for head in getattr(model.model[-1], branch, ()):
            nn.init.normal_(head[-1].weight, std=0.3)
            nn.init.constant_(head[-1].bias, 0)
    return model


def by_place(found):
    return found[torch.argsort(found[:, 0] + 1e3 * found[:, 1] + 1e6 * found[:, 5])]


@pytest.mark.parametrize("name", ["yolov5n", "yolov8n", "yolo11n", "yolov10n"])
def test_predicts_what_ultralytics_predicts(tmp_path, threads, name):
    from ultralytics import YOLO

    torch.save({"epoch": 3, "model": network(f"{name}.yaml"), "ema": None}, tmp_path / "best.pt")
    image = torch.rand(1, 3, 64, 96)
    own = YOLO(tmp_path / "best.pt").predict(image, conf=0.2, iou=0.5, max_det=300, verbose=False)[0].boxes.data
    detector = load_detector(tmp_path / "best.pt")
    found = detector.predict(image, conf=0.2, iou=0.5)[0]
    assert isinstance(detector, UltralyticsDetector) and not detector.training
    assert len(own) == len(found) > 5
    assert torch.allclose(by_place(found), by_place(own), atol=1e-4)


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_several_classes_as_in_ultralytics_validation(tmp_path, name):
    from ultralytics.utils.nms import non_max_suppression

    model = network(f"{name}.yaml", 3)
    torch.save({"model": model.half()}, tmp_path / "best.pt")
    detector, image = load_detector(tmp_path / "best.pt"), torch.rand(1, 3, 96, 64)
    assert detector.names == ["thing 0", "thing 1", "person"]
    with torch.no_grad():
        raw = model.float()(image)
        own = non_max_suppression(raw, 0.3, 0.5, multi_label=True, end2end=model.end2end)[0]
    own[:, :4] = own[:, :4].clamp(min=0).minimum(torch.tensor([64.0, 96, 64, 96]))
    found = detector.predict(image, conf=0.3, iou=0.5)[0]
    assert set(found[:, 5].tolist()) == {0, 1, 2} and torch.allclose(by_place(found), by_place(own), atol=1e-4)
    people = detect(detector, [image[0]], conf=0.3, iou=0.5)[0]
    assert len(people) and torch.equal(people[:, :5], found[found[:, 5] == 2][:, :5]) and (people[:, 5] == 0).all()


def test_pads_other_sizes(tmp_path):
    torch.save({"model": network("yolov8n.yaml")}, tmp_path / "best.pt")
    detector, image = load_detector(tmp_path / "best.pt"), torch.rand(3, 50, 70)
    padded = torch.full((3, 64, 96), 114 / 255)
    padded[:, :50, :70] = image
    found, = detect(detector, [image], conf=0.2)
    assert found[:, :4].min() >= 0 and found[:, [0, 2]].max() <= 70 and found[:, [1, 3]].max() <= 50
    assert torch.equal(found[:, 4], detect(detector, [padded], conf=0.2)[0][:, 4])
    with pytest.raises(FusionError, match="takes float RGB images"):
        detector.predict(image[None, :1])


def test_state_dict_by_the_name_of_its_file(tmp_path):
    model = network("yolo11n.yaml", 80)
    torch.save(model.state_dict(), tmp_path / "yolo11n.pt")
    detector = load_detector(tmp_path / "yolo11n.pt")
    assert detector.names[0] == "person" and len(detector.names) == 80
    assert torch.equal(detector.model.model[3].conv.weight, model.model[3].conv.weight)
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    with pytest.raises(FusionError, match=r"mine\.pt: .*called mine, which ultralytics does not describe"):
        load_detector(tmp_path / "mine.pt")
    torch.save(model.state_dict(), tmp_path / "yolo11s.pt")
    with pytest.raises(FusionError, match=r"yolo11s\.pt: .*does not fit yolo11s"):
        load_detector(tmp_path / "yolo11s.pt")


def test_names_of_networks(tmp_path):
    """Official names, old and new, and files that were trained under another name."""
    for given, scale, expected in (("yolov5nu", None, (0.33, 0.25)), ("yolov8m", None, (0.67, 0.75)),
                                   ("yolov8", "s", (0.33, 0.5)), ("/old/place/yolov8n.yaml", None, (0.33, 0.25))):
        model = network("yolov8n.yaml" if "8" in given else "yolov5n.yaml")
        model.yaml = {"yaml_file": given, "scale": scale, "nc": 1}
        torch.save({"model": model}, tmp_path / "x.pt")
        if expected == (0.33, 0.25):
            assert load_detector(tmp_path / "x.pt").model.yaml["scale"] == "n"
        else:
            with pytest.raises(FusionError, match=r"does not fit yolov8"):
                load_detector(tmp_path / "x.pt")


def test_activations_of_the_file_are_kept(tmp_path):
    model = network("yolov8n.yaml")
    model.model[9].cv1.act, model.model[0].act = nn.Identity(), nn.ReLU()
    torch.save({"model": model}, tmp_path / "best.pt")
    image = torch.rand(1, 3, 64, 64)
    detector = load_detector(tmp_path / "best.pt")
    with torch.no_grad():
        assert torch.equal(detector.model(image)[0], model(image)[0])
    model.model[0].act = nn.Softplus()
    torch.save({"model": model}, tmp_path / "best.pt")
    with pytest.raises(FusionError, match=r"best\.pt: .*activation Softplus is unknown"):
        load_detector(tmp_path / "best.pt")


def test_classic_files_give_the_classic_network(tmp_path):
    model = YOLOv5(2, width=0.125, names=["person", "car"]).eval()
    torch.save({"model": model}, tmp_path / "classic.pt")
    loaded = load_detector(tmp_path / "classic.pt")
    assert isinstance(loaded, YOLOv5) and loaded.names == ["person", "car"]
    scene = load_detector(SCENE_DETECTOR)
    assert torch.equal(scene.model[0].conv.weight, load_yolov5(SCENE_DETECTOR).model[0].conv.weight)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval])
@pytest.mark.parametrize("place", ["beside", "inside"])
def test_hostile_pickle_does_not_run(tmp_path, function, place):
    trace = tmp_path / "trace"
    attack = Attack(function, f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w')")
    model = network("yolov8n.yaml")
    model.yaml["yaml_file"] = attack if place == "inside" else "yolov8n.yaml"
    torch.save({"model": model, "x": attack}, tmp_path / "hostile.pt")
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert trace.exists()  # the attack works where pickled code is run
    trace.unlink()
    if function is os.system or place == "inside":
        with pytest.raises(FusionError, match=r"hostile\.pt"):
            load_detector(tmp_path / "hostile.pt")
    else:  # the weights are sound, the call is left out
        load_detector(tmp_path / "hostile.pt")
    assert not trace.exists()


def test_hostile_description_does_not_run(tmp_path):
    """ultralytics hands the activation of a description to eval; the description of a file is not used."""
    from ultralytics.nn.tasks import DetectionModel

    trace, model = tmp_path / "trace", network("yolov8n.yaml")
    model.yaml["activation"] = f"(open({str(trace)!r}, 'w'), torch.nn.SiLU())[1]"
    DetectionModel(model.yaml, verbose=False)
    assert trace.exists()
    trace.unlink()
    torch.save({"model": model}, tmp_path / "hostile.pt")
    assert load_detector(tmp_path / "hostile.pt").names == ["person"]
    assert not trace.exists()


def test_bad_files(tmp_path):
    def fails(name, message):
        with pytest.raises(FusionError, match=message) as error:
            load_detector(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)

    fails("missing.pt", "no such file; nothing is downloaded")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    fails("text.pt", "cannot be read safely")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    fails("text.safetensors", "damaged")
    torch.save([1, 2], tmp_path / "list.pt")
    fails("list.pt", "found 0 tensors of a network called list")
    torch.save({"model": nn.Sequential(nn.Conv2d(3, 4, 1))}, tmp_path / "yolov8n-seg.pt")
    fails("yolov8n-seg.pt", "no plain detection network")
    torch.save({"model": nn.Sequential(nn.Conv2d(3, 4, 1))}, tmp_path / "yolov8n.pt")
    fails("yolov8n.pt", "does not fit yolov8n")
