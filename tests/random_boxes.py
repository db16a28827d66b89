"""True boxes and detections without a detector or a picture."""

import torch

NONE, EMPTY = torch.zeros(0, 6), torch.zeros(0, 4)
BOX = torch.tensor([[0.0, 0, 20, 50]])


def scenes(seed, counts=(4, 0, 7, 1, 9, 0, 3, 5), false=3, jitter=0.1):
    """People of many heights, found with moved boxes, and false alarms; the second image has neither."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner, height = torch.rand(count, 2, generator=generator) * 300, torch.rand(count, 1, generator=generator)
        return torch.cat((corner, corner + (10 + 140 * height) * torch.tensor([0.4, 1])), 1)

    truths, predictions = [], []
    for index, count in enumerate(counts):
        true = boxes(count)
        size = (true[:, 2:] - true[:, :2]).repeat(1, 2)
        moved = true + jitter * size * torch.randn(count, 4, generator=generator)
        rows = torch.cat((moved, boxes(0 if index == 1 else false)))
        scores = torch.rand(len(rows), 1, generator=generator)
        scores[:count] **= 0.5
        scores[count:] **= 3
        truths.append(true)
        predictions.append(torch.cat((rows, scores, torch.zeros_like(scores)), 1))
    return predictions, truths
