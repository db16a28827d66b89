import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def triple():
    """Fused, infrared and visible uint8 [37, 53]: smooth shapes, noise, flat parts, and edges shared by all three."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:37, :53]
    ir = 40 + 160 * np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 60)
    visible = 100 + 60 * np.sin(x / 5) + 20 * np.cos(y / 3) + random.normal(0, 6, x.shape)
    ir[:12, :15] = visible[:12, :15] = 25
    ir[:, 45:] = visible[:, 45:]
    fused = np.maximum(ir, visible)
    return tuple(np.clip(image, 0, 255).round().astype(np.uint8) for image in (fused, ir, visible))


@pytest.fixture(scope="session")
def planes(triple):
    """The same as float32 gray values [1, 1, 37, 53], as the metric functions take them."""
    return tuple(torch.from_numpy(image).float()[None, None] for image in triple)
