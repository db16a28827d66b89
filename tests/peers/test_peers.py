import html
import subprocess
import sys

import pytest
import torch

from fusionlib.peers import BASELINES, PEERS, build, describe
from fusionlib.peers.peer import Peer
from fusionlib.utils.errors import FusionError

NAMES = ["AUIF", "DATFuse", "IVFWSR", "LRRNet", "MLFusion", "TIMFusion", "TIMFusion-light", "SwinFusion", "TextIF",
         "ALMFnet", "RMR-Fusion", "CDDFuse", "EMMA", "mean", "maximum", "laplacian", "laplacian-max"]


def test_names_and_classes():
    assert list(PEERS) == NAMES and len(PEERS) == 17
    assert all(issubclass(kind, Peer) and kind.__doc__ for kind in PEERS.values())
    assert len(set(PEERS.values())) == 17
    assert "[85]" not in PEERS and "nothing" not in PEERS
    assert BASELINES == tuple(name for name in NAMES if not list(build(name).parameters()))


def test_build():
    peer = build("lrrnet")
    assert type(peer) is PEERS["LRRNet"] and not peer.training
    with pytest.raises(FusionError, match=r"no compared method 'U2Fusion': choose among AUIF, .*, laplacian-max"):
        build("U2Fusion")


@pytest.mark.parametrize("name", NAMES)
def test_images_of_the_least_size_are_taken_and_smaller_ones_refused(name):
    peer = build(name)
    text = torch.rand(1, 512) if peer.takes_text else None
    for size in ((peer.least, 11), (11, peer.least)):
        fused = peer.fuse(torch.rand(1, *size), torch.rand(3, *size), text)
        assert fused.shape == (3, *size) and fused.isfinite().all()
    message = rf"takes images of at least {peer.least}x{peer.least} pixels, found 11x{peer.least - 1}: enlarge both"
    with pytest.raises(FusionError, match=message):
        peer.fuse(torch.rand(1, peer.least - 1, 11), torch.rand(3, peer.least - 1, 11), text)


def test_table():
    table = describe()
    assert set(table.index) == {*NAMES, "[85]"}
    assert list(table.columns) == ["paper", "year", "weights", "licence", "sha256", "parameters", "takes", "training"]
    assert table.index[table.parameters.isna()].tolist() == ["[85]"] and "lost" in table.paper["[85]"]
    # Counted from the official releases' layouts.
    official = {"AUIF": 11_631, "DATFuse": 10_760, "IVFWSR": 14_092_815, "LRRNet": 49_204, "MLFusion": 1_994_838,
                "TIMFusion": 1_232_225, "TIMFusion-light": 127_358, "SwinFusion": 973_681, "TextIF": 63_839_230,
                "ALMFnet": 53_719, "CDDFuse": 1_188_272, "EMMA": 1_517_657, "mean": 0}
    assert table.parameters[list(official)].to_dict() == official
    assert table.takes["TextIF"] == "infrared and RGB, text, sides in multiples of 16 by resize"
    assert table.takes["mean"] == "infrared and luma"
    assert table.training[["LRRNet", "mean", "[85]"]].tolist() == ["as the release", "needs none", ""]
    only = table.index[table.training.str.startswith("architecture only: ")]
    assert list(only) == ["IVFWSR", "TIMFusion", "TIMFusion-light", "ALMFnet", "RMR-Fusion", "EMMA"]
    released = table.loc[NAMES[:13]]
    assert (released.weights != "").all() and (released.licence != "").all() and (released.year >= 2021).all()
    assert table.sha256["DATFuse"].startswith("model_10.pth: 075b6369")
    page = html.unescape(table._repr_html_())
    assert all(link in page for links in table.weights for link in links.split()) and "..." not in page


def test_networks_are_imported_when_asked_for():
    code = "import sys, fusionlib.peers as p; list(p.PEERS); print([m for m in sys.modules if 'peers.swinfusion' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
