"""The classic YOLOv5 (v6/v7): ultralytics' building blocks with the anchor-based head that it no longer ships.

Backbone with C3 blocks and SPPF, a PAN neck, and one 1x1 convolution per scale. Module numbers, and with them the names
of all weights, are those of the official checkpoints.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.ops import box_convert

from fusionlib.detection.blocks import C3, SPPF, Concat, Conv
from fusionlib.detection.postprocessing import check_images, pad, padding, suppress
from fusionlib.utils.errors import FusionError

STRIDES = (8, 16, 32)

#: Width and height in pixels of the three anchors of each scale, as fitted to COCO by the official release.
COCO_ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))

_SKIPS = {12: 6, 16: 4, 19: 14, 22: 10}  # module number of a concatenation -> that of its second input
_HEAD_INPUTS = (17, 20, 23)


class _AnchorHead(nn.Module):
    """One 1x1 convolution per scale with 3 * (5 + num_classes) outputs."""

    def __init__(self, num_classes, channels, anchors):
        super().__init__()
        self.register_buffer("anchors", anchors / anchors.new_tensor(STRIDES).view(3, 1, 1))  # in grid units
        self.m = nn.ModuleList(nn.Conv2d(c, 3 * (5 + num_classes), 1) for c in channels)
        # Start from the prior rather than from one half: about 8 objects in a 640x640 image, and a probability of .6
        # shared by all classes. Otherwise the first steps only teach the network "no object".
        for conv, stride in zip(self.m, STRIDES):
            bias = conv.bias.detach().view(3, -1)
            bias[:, 4] = math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] = math.log(0.6 / (num_classes - 0.99999))

    def forward(self, features):
        maps = []
        for conv, feature in zip(self.m, features):
            raw = conv(feature)
            b, _, h, w = raw.shape
            maps.append(raw.view(b, 3, -1, h, w).permute(0, 1, 3, 4, 2).contiguous())
        return maps


class YOLOv5(nn.Module):
    """Classic anchor-based YOLOv5.

    `model(images)` takes [B, 3, H, W], RGB in 0..1, H and W multiples of 32, and returns the three raw maps
    [B, 3, H/s, W/s, 5 + num_classes] for s = 8, 16, 32 (tx, ty, tw, th, objectness, classes; no sigmoid applied), in
    training and evaluation mode alike. Raises FusionError for other shapes.

    Args:
        depth, width: multipliers of repeats and channels (n .33, .25; s .33, .5; m .67, .75; l 1, 1; x 1.33, 1.25).
        anchors: [3, 3, 2] width and height in pixels.
        names: one name per class.
    """

    def __init__(self, num_classes: int, depth: float = 0.33, width: float = 0.25, anchors=COCO_ANCHORS,
                 names: Sequence[str] | None = None):
        super().__init__()
        self.num_classes = num_classes
        self.strides = STRIDES
        self.names = list(names) if names is not None else [f"class {i}" for i in range(num_classes)]
        if len(self.names) != num_classes:
            raise FusionError(f"A YOLOv5 of {num_classes} classes needs {num_classes} names, not {len(self.names)}.")
        self.frozen = False
        anchors = torch.as_tensor(anchors, dtype=torch.float32).reshape(3, 3, 2)

        c64, c128, c256, c512, c1024 = (math.ceil(c * width / 8) * 8 for c in (64, 128, 256, 512, 1024))
        n3, n6, n9 = (max(round(n * depth), 1) for n in (3, 6, 9))
        self.model = nn.ModuleList([
            Conv(3, c64, 6, 2, 2), Conv(c64, c128, 3, 2), C3(c128, c128, n3),  # 0-2
            Conv(c128, c256, 3, 2), C3(c256, c256, n6),  # 3-4, stride 8
            Conv(c256, c512, 3, 2), C3(c512, c512, n9),  # 5-6, stride 16
            Conv(c512, c1024, 3, 2), C3(c1024, c1024, n3), SPPF(c1024, c1024, 5),  # 7-9, stride 32
            Conv(c1024, c512, 1, 1), nn.Upsample(scale_factor=2), Concat(), C3(2 * c512, c512, n3, False),  # 10-13
            Conv(c512, c256, 1, 1), nn.Upsample(scale_factor=2), Concat(),  # 14-16
            C3(2 * c256, c256, n3, False),  # 17, to the head
            Conv(c256, c256, 3, 2), Concat(), C3(2 * c256, c512, n3, False),  # 18-20, to the head
            Conv(c512, c512, 3, 2), Concat(), C3(2 * c512, c1024, n3, False),  # 21-23, to the head
            _AnchorHead(num_classes, (c256, c512, c1024), anchors),
        ])
        self.model[9].cv1.act = nn.SiLU()  # left out by newer ultralytics; YOLOv5 was trained with it
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03

    @property
    def anchors(self) -> torch.Tensor:
        """Anchors in pixels, [3, 3, 2]."""
        grid = self.model[-1].anchors
        return grid * grid.new_tensor(self.strides).view(3, 1, 1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """[B, 3, H, W] in 0..1 -> three raw maps [B, 3, H/s, W/s, 5 + num_classes]."""
        check_images(images)
        bottom, right = padding(images, max(STRIDES))
        if bottom or right:
            h, w = images.shape[-2:]
            raise FusionError(f"YOLOv5 needs height and width in multiples of 32, found {h}x{w}: pad by {bottom} rows "
                              f"at the bottom and {right} columns at the right, or resize (predict() pads by itself).")
        *body, head = self.model
        outputs, x = {}, images
        for i, layer in enumerate(body):
            x = layer([x, outputs[_SKIPS[i]]]) if i in _SKIPS else layer(x)
            if i in _HEAD_INPUTS or i in _SKIPS.values():
                outputs[i] = x
        return head([outputs[i] for i in _HEAD_INPUTS])

    def train(self, mode: bool = True):
        """As nn.Module.train, except that a frozen detector stays in evaluation mode (see `freeze`)."""
        return super().train(mode and not self.frozen)

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Raw maps -> [B, N, 5 + num_classes]: centre x, y, width, height in pixels, objectness and classes in 0..1."""
        decoded = []
        for raw, anchors, stride in zip(maps, self.anchors, self.strides):
            b, _, h, w, _ = raw.shape
            p = raw.float().sigmoid()
            rows, columns = torch.meshgrid(torch.arange(h, device=p.device), torch.arange(w, device=p.device),
                                           indexing="ij")
            cells = torch.stack((columns, rows), -1)  # [h, w, 2] as x, y
            xy = (2 * p[..., :2] - 0.5 + cells) * stride
            wh = (2 * p[..., 2:4]) ** 2 * anchors.float().view(3, 1, 1, 2)
            decoded.append(torch.cat((xy, wh, p[..., 4:]), -1).view(b, 3 * h * w, -1))
        return torch.cat(decoded, 1)

    @torch.no_grad()
    def predict(self, images: torch.Tensor, conf: float = 0.001, iou: float = 0.6, max_det: int = 300,
                classes: Sequence[int] | None = None) -> list[torch.Tensor]:
        """Detect objects by the protocol of the official validation.

        A box may be reported once per class that passes `conf` (multi-label). The score is objectness times class
        probability, or objectness alone if there is only one class, whose output the classic loss never trains.
        Non-maximum suppression works within a class. Images of any size are padded with grey at the bottom and right.

        Args:
            images: [B, 3, H, W], RGB in 0..1.
            conf, iou, max_det, classes: as for `postprocessing.suppress`.

        Returns:
            Per image [n, 6]: x1, y1, x2, y2 in pixels, score, class; best score first.
        """
        check_images(images)
        training = self.training
        self.eval()
        maps = self(pad(images, max(STRIDES)))
        self.train(training)

        results = []
        for p in self.decode(maps):
            p = p[p[:, 4] > conf]
            scores = p[:, 4:5] if self.num_classes == 1 else p[:, 4:5] * p[:, 5:]
            boxes = box_convert(p[:, :4], "cxcywh", "xyxy")
            results.append(suppress(boxes, scores, images.shape[-2:], conf, iou, max_det, classes))
        return results


def freeze(model: YOLOv5) -> YOLOv5:
    """Freeze the detector, parameters and BatchNorm statistics; gradients still reach the input image.

    It stays in evaluation mode even if a module that contains it is switched to training.
    """
    model.frozen = True
    return model.requires_grad_(False).eval()
