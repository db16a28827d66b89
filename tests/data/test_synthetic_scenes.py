"""The synthetic scenes: reproducible, labelled exactly, in perspective, and too hard for either modality alone."""

import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from fusionlib.data.synthetic import scene as scenes
from fusionlib.utils.errors import FusionError

SMALL = (128, 160)


@pytest.fixture(scope="module")
def hundred():
    return [scenes.render(index) for index in range(100)]


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ir", "visible", "boxes", "people"))


def test_same_arguments_same_bytes(hundred):
    assert same(scenes.render(3), hundred[3])
    assert not same(scenes.render(3, seed=1), hundred[3])
    assert not same(scenes.render(4), hundred[3])


def test_shapes_and_types(hundred):
    for scene in (hundred[0], scenes.render(0, size=[96, 200])):
        height, width = scene.ir.shape
        assert scene.ir.dtype == scene.visible.dtype == scene.people.dtype == np.uint8
        assert scene.visible.shape == (height, width, 3) and scene.people.shape == (height, width)
        assert scene.boxes.dtype == np.float32 and scene.boxes.shape == (len(scene.distances), 4)
    assert (height, width) == (96, 200)


def test_visible_is_coloured_and_both_images_use_their_range(hundred):
    for scene in hundred[:20]:
        assert scene.visible.std(2).mean() > 1
        assert np.ptp(np.percentile(scene.ir, (0.5, 99.5))) > 60


def test_night_and_day(hundred):
    night = [scene.night for scene in hundred]
    assert 3 <= sum(night[:20]) <= 17
    brightness = np.array([scene.visible.mean() for scene in hundred])
    assert brightness[night].max() < brightness[~np.array(night)].min()


def test_boxes_are_tight_around_the_people(hundred):
    for scene in hundred:
        height, width = scene.ir.shape
        for k, (x0, y0, x1, y1) in enumerate(scene.boxes.astype(int)):
            person = scene.people == k + 1
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and y1 - y0 >= 8
            inside = person[y0:y1, x0:x1]
            assert inside.sum() == person.sum()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    numbers = {int(n) for scene in hundred for n in np.unique(scene.people)}
    assert max(numbers - {255}) == max(len(scene.boxes) for scene in hundred)


def test_height_falls_with_distance(hundred):
    heights, distances = [], []
    for scene in hundred:
        whole = (scene.boxes[:, 1] > 0) & (scene.boxes[:, 3] < scene.ir.shape[0])
        heights += list((scene.boxes[:, 3] - scene.boxes[:, 1])[whole])
        distances += list(scene.distances[whole])
    heights, distances = np.array(heights), np.array(distances)
    # Height times distance is focal length times stature: 1.05 to 1.6 picture heights times 1.45 to 1.95 m with a hat.
    assert (heights * distances).max() < 1.6 * 256 * 1.95
    assert np.median(heights * distances) > 1.05 * 256 * 1.45
    assert np.polyfit(np.log(distances), np.log(heights), 1)[0] == pytest.approx(-1, abs=0.12)
    assert np.percentile(heights, 10) < 22 and heights.max() > 110


def test_size_scales_the_same_scene(hundred):
    index, large = next((k, scene) for k, scene in enumerate(hundred) if len(scene.boxes) > 3)
    scene = scenes.render(index, size=SMALL)
    assert len(scene.boxes) == len(large.boxes)
    np.testing.assert_allclose(large.boxes / 2, scene.boxes, atol=1.5)
    blurred = [cv2.resize(s.ir, (40, 32), interpolation=cv2.INTER_AREA).astype(float) for s in (scene, large)]
    assert np.corrcoef(blurred[0].ravel(), blurred[1].ravel())[0, 1] > 0.97


def contrast(image, person, ring):
    """Mean distance of a person's pixels from the median around, above what the surroundings show themselves."""
    image = cv2.GaussianBlur(image, (0, 0), 0.8).reshape(*person.shape, -1).astype(float)
    middle = np.median(image[ring], 0)
    return (np.abs(image[person] - middle).mean(0) - np.abs(image[ring] - middle).mean(0)).max()


def test_neither_modality_suffices(hundred):
    found = []
    for scene in hundred:
        for k, box in enumerate(scene.boxes):
            person = scene.people == k + 1
            reach = 2 * max(3, int(box[3] - box[1]) // 4) + 1
            ring = (cv2.dilate(person.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0) & (scene.people == 0)
            found.append((contrast(scene.ir, person, ring), contrast(scene.visible, person, ring)))
    ir, visible = np.array(found).T
    hidden, clear = 10, 20  # of 255 gray levels
    assert len(found) > 250
    assert np.mean((visible < hidden) & (ir > clear)) > 0.15
    assert np.mean((ir < hidden) & (visible > clear)) > 0.15
    assert np.mean((ir < hidden) & (visible < hidden)) < 0.12


def test_hot_things_that_are_no_people(hundred):
    def distracting(scene):
        if not (scene.people > 0).any():
            return False
        apart = cv2.dilate((scene.people > 0).astype(np.uint8), np.ones((9, 9))) == 0
        return (apart & (scene.ir > np.median(scene.ir[scene.people > 0]))).sum() > 40

    assert np.mean([distracting(scene) for scene in hundred if scene.night]) > 0.3


def names(folder, pattern):
    return {path.stem for path in folder.glob(pattern)}


def test_write_layout(tmp_path):
    root = scenes.write(tmp_path / "set", train=3, test=2, seed=5, size=SMALL)
    train, test = names(root, "infrared/train/*.png"), names(root, "infrared/test/*.png")
    assert train == {"000001", "000002", "000003"} and test == {"000004", "000005"}
    assert names(root, "visible/train/*.png") == train and names(root, "visible/test/*.png") == test
    assert names(root, "Annotations/*.xml") == train | test
    assert json.loads((root / "scenes.json").read_text())["finished"]
    scene = scenes.render(3, seed=5, size=SMALL)
    assert np.array_equal(cv2.imread(str(root / "infrared/test/000004.png"), cv2.IMREAD_UNCHANGED), scene.ir)
    assert np.array_equal(cv2.imread(str(root / "visible/test/000004.png"))[..., ::-1], scene.visible)
    tree = ElementTree.parse(root / "Annotations/000004.xml")
    edges = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(item.findtext(f"bndbox/{edge}")) for edge in edges] for item in tree.iter("object")]
    assert np.array_equal(np.reshape(boxes, (-1, 4)), scene.boxes)
    assert {o.findtext("name") for o in tree.iter("object")} <= {"person"}
    assert [tree.findtext(f"size/{n}") for n in ("width", "height")] == ["160", "128"]


def test_write_leaves_and_completes(tmp_path, monkeypatch):
    def contents():
        files = [path for path in tmp_path.rglob("*.*") if path.stem != "scenes"]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    scenes.write(tmp_path, 2, 1, size=SMALL)
    before = contents()
    drawn = []
    render = scenes.render
    monkeypatch.setattr(scenes, "render", lambda index, *rest: drawn.append(index) or render(index, *rest))
    scenes.write(tmp_path, 2, 1, size=SMALL)
    assert drawn == [] and contents() == before

    lost = tmp_path / "visible/train/000002.png"
    lost.unlink()
    scenes.write(tmp_path, 2, 1, size=SMALL)
    assert drawn == [1]
    assert {path: data for path, (data, _) in contents().items()} == {path: data for path, (data, _) in before.items()}
    assert not list(tmp_path.rglob("*.tmp"))


def test_write_refuses_other_scenes(tmp_path):
    scenes.write(tmp_path, 1, 0, size=SMALL)
    with pytest.raises(FusionError, match=r"scenes\.json.*'seed': 1"):
        scenes.write(tmp_path, 1, 0, seed=1, size=SMALL)
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(FusionError, match=r"scenes\.json"):
        scenes.write(tmp_path, 1, 0, size=SMALL)


@pytest.mark.parametrize("size", [(0, 320), (256,), (32, 320), (256, 5000), (256.0, 320), "256", None])
def test_bad_size(size, tmp_path):
    with pytest.raises(FusionError, match="height, width"):
        scenes.render(0, size=size)
    with pytest.raises(FusionError, match="height, width"):
        scenes.write(tmp_path / "set", 1, 1, size=size)
    assert not (tmp_path / "set").exists()


def test_bad_numbers(tmp_path):
    with pytest.raises(FusionError, match="index"):
        scenes.render(-1)
    with pytest.raises(FusionError, match="seed"):
        scenes.render(0, seed=1.5)
    with pytest.raises(FusionError, match="train"):
        scenes.write(tmp_path, -1, 1)
