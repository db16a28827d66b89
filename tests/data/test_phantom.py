"""The head phantoms: reproducible, contrasts that disagree where those of an MRI do, and the layout of BraTS2020."""

import nibabel
import numpy as np
import pytest

from fusionlib.data import medical
from fusionlib.data.synthetic import phantom
from fusionlib.utils.errors import FusionError

SIZE = (64, 64, 32)


@pytest.fixture(scope="module")
def heads():
    return [phantom.render(index, size=SIZE) for index in range(4)]


def test_same_arguments_same_voxels(heads):
    again, other = phantom.render(1, size=SIZE), phantom.render(1, seed=1, size=SIZE)
    assert all(np.array_equal(again.contrasts[name], heads[1].contrasts[name]) for name in again.contrasts)
    assert np.array_equal(again.seg, heads[1].seg)
    assert not np.array_equal(other.seg, heads[1].seg) and not np.array_equal(heads[0].tissue, heads[1].tissue)


def test_shapes_types_and_range(heads):
    for head in heads:
        assert set(head.contrasts) == {"t1", "t1ce", "t2", "flair"} and head.seg.shape == head.tissue.shape == SIZE
        assert set(np.unique(head.seg)) == {0, 1, 2, 4}
        for voxels in head.contrasts.values():
            assert voxels.dtype == np.float32 and voxels.shape == SIZE and 0 <= voxels.min() and voxels.max() < 1.6
            assert np.array_equal(voxels > 0, head.tissue != phantom.AIR)  # exactly zero outside, nowhere inside


def test_contrasts_disagree_as_those_of_an_mri_do(heads):
    for head in heads:
        value = {name: [np.median(voxels[head.tissue == kind]) for kind in range(len(phantom.TISSUES))]
                 for name, voxels in head.contrasts.items()}  # fmt: skip
        assert value["t1"][phantom.WHITE] > value["t1"][phantom.GRAY] > value["t1"][phantom.LIQUID]
        for name in ("t2", "flair"):
            assert value[name][phantom.GRAY] > value[name][phantom.WHITE]
        assert value["t2"][phantom.LIQUID] > value["t2"][phantom.GRAY] > value["flair"][phantom.LIQUID]
        assert value["flair"][phantom.SWELLING] > 1.3 * value["flair"][phantom.WHITE]
        assert value["t1"][phantom.SWELLING] < value["t1"][phantom.WHITE]
        assert value["t1ce"][phantom.RIM] > 1.3 * value["t1"][phantom.RIM]


def test_the_lesion_lies_in_the_brain_and_is_large_enough_for_several_slices(heads):
    for head in heads:
        area = (head.seg > 0).sum((0, 1))
        assert 0.002 < (head.seg > 0).sum() / (head.tissue != phantom.AIR).sum() < 0.15
        assert len(medical.choose_slices(area, 100)) >= 3
        x, y, z = (np.average(axis, weights=(head.seg == 1).ravel()) for axis in np.indices(SIZE).reshape(3, -1))
        assert 10 < x < 54 and 10 < y < 54 and 5 < z < 27


def test_ventricles_are_symmetric_but_for_the_bending(heads):
    for head in heads:
        liquid = head.tissue[12:52, 12:52, 12:20] == phantom.LIQUID
        left, right = liquid[:20].sum(), liquid[20:].sum()
        assert 0.5 < left / right < 2


def test_written_as_brats2020_writes_and_read_back(tmp_path):
    phantom.write(tmp_path, 2, size=SIZE)
    files = medical.find_cases(tmp_path)
    assert [path.name for path in files] == ["Phantom_001", "Phantom_002"]
    flair = files[tmp_path / "Phantom" / "Phantom_002" / "Phantom_002"]["flair"]
    image, rendered = nibabel.load(flair), phantom.render(1, size=SIZE)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S") and image.header.get_zooms() == (3, 3, 6)
    voxels = medical.read_volume(flair).voxels
    assert np.abs(voxels - 1000 * rendered.contrasts["flair"]).max() <= 0.51
    report = medical.read(tmp_path, tmp_path / "out", 3)
    assert len(report.pairs) == 6 and {pair.dataset for pair in report.pairs} == {"Phantom"}
    assert all(len(pair.boxes) == 1 for pair in report.pairs)


def test_writing_is_reproducible_and_leaves_what_is_there(tmp_path):
    for folder in ("a", "b"):
        phantom.write(tmp_path / folder, 1, size=SIZE)
    first, second = (sorted((tmp_path / folder).rglob("*.nii.gz")) for folder in "ab")
    assert len(first) == 5 and [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    before = first[0].stat().st_mtime_ns
    second[0].unlink()
    for folder in ("a", "b"):
        phantom.write(tmp_path / folder, 1, size=SIZE)
    assert first[0].stat().st_mtime_ns == before and second[0].read_bytes() == first[0].read_bytes()


@pytest.mark.parametrize("arguments, sentence", [
    ({"index": -1}, "phantom: index"), ({"index": 0, "seed": 0.5}, "phantom: seed"),
    ({"index": 0, "size": (64, 64)}, "integers from 32 to 256"),
    ({"index": 0, "size": (64, 64, 8)}, "integers from 32 to 256"),
])  # fmt: skip
def test_arguments_out_of_range(arguments, sentence):
    with pytest.raises(FusionError, match=sentence):
        phantom.render(**arguments)
