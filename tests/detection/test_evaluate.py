import pytest
import torch

from fusionlib.detection import YOLOv5, detect
from fusionlib.utils.errors import FusionError


def test_detect_maps_classes_by_name():
    model = YOLOv5(3, width=0.125, names=["Car", "People", "bus"]).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 70, 50)]
    found = detect(model, images, classes=("person", "car"), conf=0)
    for image, boxes in zip(images, found):
        all_classes = model.predict(image[None], conf=0, classes=[1, 0])[0]
        assert torch.equal(boxes[:, :5], all_classes[:, :5])
        assert torch.equal(boxes[:, 5], 1 - all_classes[:, 5])
        assert boxes[:, 5].unique().tolist() == [0, 1]
    with pytest.raises(FusionError, match="knows Car, People, bus, not bicycle"):
        detect(model, images, classes=("bicycle",))
