"""What a back end is shown: the fused image alone, or beside both sources, and what the rules say of either."""

import pytest
import torch

from fusionlib.data import Pair
from fusionlib.data.degradation import degrade
from fusionlib.data.image_io import as_tensor, write_image
from fusionlib.data.synthetic.scene import render
from fusionlib.feedback.backends import to_pil
from fusionlib.feedback.querying import QUESTION, ask
from fusionlib.feedback.rules import Rules, damages
from fusionlib.feedback.store import image_fingerprint
from fusionlib.feedback.views import WithSources, side_by_side
from fusionlib.inference.pair import advice


@pytest.fixture(scope="module")
def sources():
    scene = render(1, seed=5)
    return as_tensor(scene.ir), as_tensor(scene.visible)


def test_three_images_side_by_side(sources):
    ir, visible = sources
    height, width = ir.shape[1:]
    panel = side_by_side((visible, ir, visible))
    assert panel.shape == (3, height, 3 * width)
    assert torch.equal(panel[..., :width], visible) and torch.equal(panel[..., 2 * width :], visible)
    assert torch.equal(panel[..., width : 2 * width], ir.expand(3, -1, -1))
    assert side_by_side(ir) is ir
    assert to_pil((visible, ir, visible)).size == (3 * width, height)
    assert image_fingerprint((visible, ir, visible)) == image_fingerprint(panel) != image_fingerprint(visible)


def test_rules_speak_of_damages_only_where_they_see_the_sources(sources):
    ir, foggy = degrade(*sources, [("haze", "visible", 0.9)], 3)
    expected = damages(ir, foggy)
    assert "hazy; remove the haze" in expected
    alone, beside, clean = (Rules().reply([view], QUESTION)[0].text for view in (
        foggy, (foggy, ir, foggy), (sources[1], *sources)))  # fmt: skip
    assert beside == expected != alone and "hazy" not in alone
    assert clean == Rules().reply([sources[1]], QUESTION)[0].text
    assert damages(*(torch.rand(channels, 31, 40) for channels in (1, 3))) == ""  # too small to be measured


def test_auto_speaks_of_damages_alone(sources):
    striped = degrade(*sources, [("stripe noise", "ir", 0.9)], 3)
    assert advice(*striped) == damages(*striped) and "striped; remove the stripes" in advice(*striped)
    assert advice(*sources) is None


def test_images_with_their_sources_are_read_when_they_are_asked_about(sources, tmp_path):
    ir, visible = sources
    write_image(tmp_path / "ir.png", (255 * ir[0]).byte().numpy())
    write_image(tmp_path / "vi.png", (255 * visible).byte().permute(1, 2, 0).numpy())
    views = WithSources([visible], [Pair("Toy", "test", "1", tmp_path / "ir.png", tmp_path / "vi.png")])
    assert len(views) == 1 and [image.shape[0] for image in views[0]] == [3, 1, 3]
    (answer,) = ask(views, "rules", names=["1"])
    assert answer.text and answer.image == image_fingerprint(views[0])
    with pytest.raises(IndexError):
        views[1]
