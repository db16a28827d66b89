"""Medical pairs: volumes in any orientation, the slices chosen, the atlas, subjects kept together, and bad files."""

import gzip

import cv2
import nibabel
import numpy as np
import pytest

from fusionlib.data import load, medical, read_manifest, write_manifest
from fusionlib.utils.errors import FusionError

SIZE = (20, 24, 12)
CONTRASTS = ("t1", "t1ce", "t2", "flair")


def head(seed=0):
    """Voxels [X,Y,Z] to the right, the front and up: a block of noise, with a landmark at the right front of each z."""
    voxels = np.zeros(SIZE, np.float32)
    voxels[4:16, 4:20, 1:11] = np.random.default_rng(seed).uniform(100, 200, (12, 16, 10))
    voxels[14, 18, 1:11] = 199
    return voxels


def save(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.5, 1, 2, 1]) if affine is None else affine), path)
    return path


def case(root, name="BraTS20_Training_001", seg=None, suffix=".nii.gz", modalities=CONTRASTS, seed=0):
    folder = root / "BraTS2020" / "Train" / name
    for index, modality in enumerate(modalities):
        save(folder / f"{name}_{modality}{suffix}", head(10 * seed + index))
    if seg is not None:
        save(folder / f"{name}_seg{suffix}", seg)
    return folder


def save_with_sform(path, rows):
    image = nibabel.Nifti1Image(head(), np.eye(4))
    for name, row in zip("xyz", rows):
        image.header[f"srow_{name}"] = row
    image.header["sform_code"] = 1
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + head().tobytes(order="F")))


def marked(*areas):
    """A segmentation with `areas` marked voxels in a row, in slices 2, 3 and so on."""
    seg = np.zeros(SIZE, np.uint8)
    for z, area in enumerate(areas, 2):
        seg[6 : 6 + area, 8, z] = 4
    return seg


# ---- volumes


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
def test_the_same_head_in_any_order_of_axes_reads_the_same(tmp_path, codes):
    affine = np.diag([1.5, 1, 2, 1])
    affine[:3, 3] = -10, 4, 7
    image = nibabel.Nifti1Image(head(), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(image.as_reoriented(turn), tmp_path / "v.nii.gz")
    volume = medical.read_volume(tmp_path / "v.nii.gz")
    assert np.array_equal(volume.voxels, head()) and np.allclose(volume.affine, affine)
    assert volume.spacing == (1.5, 1, 2)
    slice_5 = medical.axial_slice(volume.voxels, 5)
    assert slice_5.shape == (24, 20) and slice_5[24 - 1 - 18, 20 - 1 - 14] == 199  # right front: at the upper left


def test_a_file_whose_left_and_right_are_flipped_with_its_affine_gives_the_same_slice(tmp_path):
    flipped = np.diag([-1.5, 1, 2, 1])
    flipped[0, 3] = 1.5 * (SIZE[0] - 1)
    one = medical.read_volume(save(tmp_path / "a.nii", head()))
    other = medical.read_volume(save(tmp_path / "b.nii.gz", head()[::-1], flipped))
    assert np.array_equal(medical.axial_slice(one.voxels, 5), medical.axial_slice(other.voxels, 5))
    unaware = medical.read_volume(save(tmp_path / "c.nii", head()[::-1]))  # flipped without telling the affine
    assert not np.array_equal(medical.axial_slice(one.voxels, 5), medical.axial_slice(unaware.voxels, 5))


def test_the_scaling_of_the_header_counts(tmp_path):
    image = nibabel.Nifti1Image(head().astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "v.nii.gz")
    stored = nibabel.load(tmp_path / "v.nii.gz").dataobj.get_unscaled()
    assert np.allclose(medical.read_volume(tmp_path / "v.nii.gz").voxels, 0.5 * stored + 3)


def test_gray_values_span_the_percentiles_inside_of_the_head(tmp_path):
    voxels = head()
    voxels[10, 10, 5] = 1e6  # one voxel of fat does not decide the scale
    voxels[10, 11, 5] = -50
    scaled = medical.normalise(medical.read_volume(save(tmp_path / "v.nii", voxels)))
    low, high = np.percentile(voxels[voxels != 0], (0.5, 99.5))
    assert scaled.dtype == np.float32 and scaled.min() == 0 and scaled.max() == 1
    assert scaled[8, 8, 5] == pytest.approx((voxels[8, 8, 5] - low) / (high - low), abs=1e-6)
    assert (scaled[voxels == 0] == 0).all() and scaled[10, 10, 5] == 1 and scaled[10, 11, 5] == 0


@pytest.mark.parametrize("make, sentence", [
    (lambda p: None, "v.nii.gz: expected a whole NIfTI volume, found something that cannot be read"),
    (lambda p: p.write_bytes(b""), "expected a whole NIfTI volume"),
    (lambda p: p.write_bytes(gzip.compress(b"hello" * 100)), "expected a whole NIfTI volume"),
    (lambda p: p.write_bytes(save(p, head()).read_bytes()[:-900]), "expected a whole NIfTI volume"),
    (lambda p: p.write_bytes(save(p, head()).read_bytes()[:60]), "expected a whole NIfTI volume"),
    (lambda p: save(p, head()[..., 5]), r"three dimensions, found \[20, 24\]"),
    (lambda p: save(p, np.repeat(head()[..., None], 2, 3)), r"three dimensions, found \[20, 24, 12, 2\]"),
    (lambda p: save(p, head()[..., 5:6]), r"three dimensions, found \[20, 24, 1\]"),
    (lambda p: save(p, np.where(head() == 199, np.nan, head())), "found 10 that are NaN or infinite"),
    (lambda p: save(p, head().astype(np.complex64)), "real numbers"),
    (lambda p: save_with_sform(p, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]), "an affine from voxels to millimetres"),
    (lambda p: save_with_sform(p, [[1, 0, 0, 0], [0, np.nan, 0, 0], [0, 0, 1, 0]]), "an affine from voxels to milli"),
])  # fmt: skip
def test_one_sentence_about_a_bad_volume(tmp_path, make, sentence):
    make(tmp_path / "v.nii.gz")
    with pytest.raises(FusionError, match=sentence) as error:
        medical.read_volume(tmp_path / "v.nii.gz")
    assert str(error.value).startswith(str(tmp_path / "v.nii.gz"))


def test_a_header_that_claims_too_much_is_not_believed(tmp_path):
    path = save(tmp_path / "v.nii", head())
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], np.int16).tobytes()
    path.write_bytes(data)
    with pytest.raises(FusionError, match="at most 67,108,864 voxels of real numbers"):
        medical.read_volume(path)


def test_a_flat_or_empty_head(tmp_path):
    for value in (0, 7):
        volume = medical.read_volume(save(tmp_path / "v.nii", np.full(SIZE, value, np.float32)))
        with pytest.raises(FusionError, match=r"v\.nii: expected a head with different intensities"):
            medical.normalise(volume)


# ---- slices and pairs


def test_slices_are_spread_over_those_with_half_of_the_largest_area():
    area = np.array([0, 1, 4, 5, 6, 8, 9, 10, 7, 5, 4, 0])
    assert medical.choose_slices(area, 100) == [3, 4, 5, 6, 7, 8, 9]
    assert medical.choose_slices(area, 3) == [3, 6, 9]
    assert medical.choose_slices(area, 1) == [3]
    assert medical.choose_slices(np.array([0, 2, 0]), 4) == [1]


def test_pairs_of_a_marked_case(tmp_path):
    case(tmp_path, seg=marked(2, 6, 3, 8, 1), seed=1)
    report = medical.read(tmp_path, tmp_path / "out", 8)
    assert [pair.name for pair in report.pairs] == ["BraTS20_Training_001_z003", "BraTS20_Training_001_z005"]
    assert {pair.dataset for pair in report.pairs} == {"BraTS2020"} and not report.problems
    pair = report.pairs[1]
    # x 6..13, y 8 in voxels: columns run from the right, 19 - 13 = 6 to 19 - 6 = 13; rows from the front, 23 - 8 = 15.
    assert pair.boxes.tolist() == [[6, 15, 14, 16]] and pair.classes == ("tumour",)
    ir, visible = load(pair)
    for image, seed in ((ir[0], 10), (visible[1], 13)):  # t1 and flair
        voxels = head(seed)
        low, high = np.percentile(voxels[voxels != 0], (0.5, 99.5))
        wanted = np.where(voxels != 0, (voxels - low) / (high - low), 0).clip(0, 1)[::-1, ::-1, 5].T
        assert np.abs(image.numpy() - wanted).max() <= 0.5 / 255 + 1e-6
    assert report.notes == ["BraTS20_Training_001: 2 slices with tumour from 3 to 5, 1.5x1x2 mm"]


def test_without_a_marked_tumour_the_slices_with_most_brain(tmp_path):
    case(tmp_path, "BraTS20_Training_901", suffix=".nii")
    case(tmp_path, "BraTS20_Training_002", seg=np.zeros(SIZE, np.uint8), seed=1)
    report = medical.read(tmp_path, tmp_path / "out", 3, ("flair", "t1"))
    assert [pair.name[-3:] for pair in report.pairs] == ["001", "005", "010"] * 2
    assert report.pairs[-1].boxes is None and len(report.pairs[0].boxes) == 0 == len(report.pairs[0].classes)
    assert "most brain, since no tumour is marked" in report.notes[0]
    assert "not one of BraTS2020's own cases" in report.notes[1] and "own cases" not in report.notes[0]
    assert report.pairs[0].ir.name.endswith("_flair.png") and report.pairs[0].visible.name.endswith("_t1.png")


def test_the_segmentation_of_case_355_has_another_name(tmp_path):
    folder = case(tmp_path, "BraTS20_Training_355")
    save(folder / "W39_1998.09.19_Segm.nii", marked(5))
    assert [p.name for p in medical.read(tmp_path, tmp_path / "out", 4).pairs] == ["BraTS20_Training_355_z002"]


def test_what_is_wrong_with_a_case_is_named_and_the_others_are_used(tmp_path):
    case(tmp_path, "BraTS20_Training_001", modalities=("t1", "t2"))
    folder = case(tmp_path, "BraTS20_Training_002")
    flair = folder / "BraTS20_Training_002_flair.nii.gz"
    flair.write_bytes(flair.read_bytes()[:2000])
    folder = case(tmp_path, "BraTS20_Training_003")
    save(folder / "BraTS20_Training_003_flair.nii.gz", head()[:, :, :10])
    folder = case(tmp_path, "BraTS20_Training_004")
    save(folder / "BraTS20_Training_004_flair.nii.gz", head(), np.array([[1.5, 0, 0, 30], [0, 1, 0, 0], [0, 0, 2, 0],
                                                                         [0, 0, 0, 1]]))  # fmt: skip
    case(tmp_path, "BraTS20_Training_005")
    report = medical.read(tmp_path, tmp_path / "out", 2)
    assert {medical.subject(pair) for pair in report.pairs} == {"BraTS20_Training_005"}
    assert [problem.path.name for problem in report.problems] == [
        f"BraTS20_Training_00{n}_flair.nii.gz" for n in (1, 2, 3, 4)
    ]
    assert "expected this modality beside" in report.problems[0].message
    assert "truncated" in report.problems[1].message or "cannot be read" in report.problems[1].message
    assert "[20, 24, 10] or another position" in report.problems[2].message
    assert "or another position; register" in report.problems[3].message


def test_nothing_usable_and_wrong_arguments(tmp_path):
    with pytest.raises(FusionError, match="layout of BraTS2020 or folders such as PET-MRI, found no usable one;"):
        medical.read(tmp_path, tmp_path / "out", 2)
    case(tmp_path, modalities=("t1",))
    with pytest.raises(FusionError, match=r"first of 1 problems is: .*flair"):
        medical.read(tmp_path, tmp_path / "out", 2)
    for modalities in (("t1",), ("t1", "t1"), ("t1", "pet")):
        with pytest.raises(FusionError, match="two of t1, t1ce, t2, flair"):
            medical.read(tmp_path, tmp_path / "out", 2, modalities)
    with pytest.raises(FusionError, match="at least 1 slice"):
        medical.read(tmp_path, tmp_path / "out", 0)


def atlas(root, dataset, other, names, colour):
    rng = np.random.default_rng(0)
    for side, channels in (("MRI", ()), (other, (3,) if colour else ())):
        (root / dataset / side).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / dataset / side / f"{name}.png"), rng.integers(0, 256, (16, 16, *channels), np.uint8))


def test_the_atlas_keeps_colours_and_the_mri_plays_infrared(tmp_path):
    atlas(tmp_path / "in" / "Harvard", "PET-MRI", "PET", ["25038", "30001"], True)
    atlas(tmp_path / "in" / "Harvard", "CT-MRI", "CT", ["4010"], False)
    (tmp_path / "in" / "Harvard" / "PET-MRI" / "PET" / "30001.png").unlink()
    report = medical.read(tmp_path / "in", tmp_path / "out", 2)
    assert [pair.label for pair in report.pairs] == ["CT-MRI/4010", "PET-MRI/25038"] and len(report.problems) == 1
    ct, pet = map(load, report.pairs)
    assert (ct[1][0] == ct[1][1]).all() and (pet[1][0] != pet[1][1]).any()
    wanted = cv2.imread(str(tmp_path / "in" / "Harvard" / "PET-MRI" / "PET" / "25038.png"))[..., ::-1]
    assert np.allclose(pet[1].numpy().transpose(1, 2, 0) * 255, wanted)
    mri = cv2.imread(str(tmp_path / "in" / "Harvard" / "PET-MRI" / "MRI" / "25038.png"), 0)
    assert np.allclose(pet[0][0].numpy() * 255, mri)


def test_sources_are_found_a_few_folders_deep_and_not_in_runs(tmp_path):
    case(tmp_path)
    atlas(tmp_path / "Harvard", "SPECT-MRI", "SPECT", ["4010"], True)
    case(tmp_path / "runs" / "quick" / "phantoms")
    assert len(medical.sources(tmp_path)) == 4 + 2
    assert medical.sources(tmp_path / "Harvard" / "SPECT-MRI" / "MRI") == []


# ---- who trains and who tests


def test_subjects_stay_together_also_across_the_folders_of_the_atlas(tmp_path):
    atlas(tmp_path, "CT-MRI", "CT", [f"{s}{z:03d}" for s in range(1, 11) for z in (7, 8, 9)], False)
    atlas(tmp_path, "PET-MRI", "PET", [f"{s}{z:03d}" for s in (1, 2, 3) for z in (7, 50)], True)
    pairs = medical.read(tmp_path, tmp_path / "out", 2).pairs
    split = medical.divide(pairs)
    subjects = {name: {medical.subject(pair) for pair in split[name]} for name in split}
    assert not subjects["train"] & subjects["test"] and len(split["train"]) + len(split["test"]) == len(pairs)
    assert all(pair.split == name and pair.scene == medical.subject(pair) for name in split for pair in split[name])
    assert {pair.dataset for pair in split["test"]} == {"CT-MRI", "PET-MRI"} and len(subjects["test"]) in (2, 3)
    again = medical.divide(pairs[::-1])
    assert {pair.label for pair in again["test"]} == {pair.label for pair in split["test"]}
    one = medical.divide([pair for pair in pairs if medical.subject(pair) == "3"])
    assert not one["train"] and one["test"]


def test_the_pairs_go_through_a_manifest(tmp_path):
    case(tmp_path / "in", seg=marked(4, 4))
    case(tmp_path / "in", "BraTS20_Training_002")
    split = medical.divide(medical.read(tmp_path / "in", tmp_path / "out", 3).pairs)
    assert write_manifest(tmp_path / "out" / "manifest.json", split, tmp_path / "out") == []
    read = read_manifest(tmp_path / "out" / "manifest.json", tmp_path / "out", verify=True)
    assert [[pair.label for pair in read[name]] for name in read] == [[p.label for p in split[name]] for name in split]


def test_the_development_volumes(shared, tmp_path):
    report = medical.read(shared / "data", tmp_path, 4)
    own = [pair for pair in report.pairs if pair.dataset == "BraTS2020"]
    assert len(own) == 12 and len(report.pairs) == 12 + 36 and not report.problems
    assert sum(pair.boxes is not None for pair in own) == 4  # 902 alone has a seg
    for pair in own:
        t1, flair = load(pair)
        assert t1.shape == (1, 240, 240) and flair.shape == (3, 240, 240)
        if pair.boxes is not None:  # the tumour is bright in FLAIR
            x1, y1, x2, y2 = pair.boxes[0].astype(int)
            assert flair[0, y1:y2, x1:x2].median() > flair[0][flair[0] > 0].median()
    test = {medical.subject(pair) for pair in medical.divide(own)["test"]}
    assert test == {"BraTS20_Training_902"}


def test_rmr_fusion_fuses_a_volume_of_the_layout(shared):
    import torch

    from fusionlib import peers

    files = medical.find_cases(shared / "data")[
        shared / "data/BraTS2020/MICCAI_BraTS2020_TrainingData/BraTS20_Training_903/BraTS20_Training_903"
    ]
    t1, flair = (torch.from_numpy(medical.normalise(medical.read_volume(files[name])).transpose(2, 1, 0).copy())
                 for name in ("t1", "flair"))  # fmt: skip
    part = (slice(60, 72), slice(90, 150), slice(90, 150))  # random weights: of the shape alone
    fused = peers.build("RMR-Fusion").fuse_volume(t1[part], flair[part])
    assert fused.shape == (12, 60, 60) and 0 <= fused.min() <= fused.max() <= 1


# ---- other layouts and backgrounds


def test_brats_2021_and_2023(tmp_path):
    folder = tmp_path / "BraTS2021" / "TrainingData" / "BraTS2021_00002"
    for index, modality in enumerate(CONTRASTS):
        save(folder / f"BraTS2021_00002_{modality}.nii.gz", head(index))
    for visit, seed in (("000", 10), ("001", 20)):
        name = f"BraTS-GLI-00003-{visit}"
        folder = tmp_path / "BraTS2023" / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData" / name
        for index, modality in enumerate(("t1n", "t1c", "t2w", "t2f")):
            save(folder / f"{name}-{modality}.nii.gz", head(seed + index))
        save(folder / f"{name}-seg.nii.gz", marked(5))
    report = medical.read(tmp_path, tmp_path / "out", 1)
    assert [pair.label for pair in report.pairs] == [
        "BraTS2021/BraTS2021_00002_z001", "BraTS2023/BraTS-GLI-00003-000_z002", "BraTS2023/BraTS-GLI-00003-001_z002"]
    assert not report.problems and report.pairs[1].classes == ("tumour",)
    assert [medical.subject(pair) for pair in report.pairs] == ["BraTS2021_00002", *["BraTS-GLI-00003"] * 2]
    ir, visible = load(report.pairs[2])  # t1n and t2f
    for image, seed in ((ir[0], 20), (visible[0], 23)):
        wanted = medical.axial_slice(medical.normalise(medical.read_volume(save(tmp_path / "v.nii", head(seed)))), 2)
        assert np.abs(image.numpy() - wanted).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("order", [None, ("FLAIR", "T1w", "t1gd", "T2w"), ("T2w", "t1gd", "T1w", "FLAIR")])
def test_volumes_of_four_dimensions(tmp_path, order):
    task = tmp_path / "Task01_BrainTumour"
    save(task / "imagesTr" / "BRATS_001.nii.gz", np.stack([head(seed) for seed in range(4)], 3))
    save(task / "imagesTr" / "._BRATS_001.nii.gz", head())  # as an archive from a Mac leaves it
    save(task / "labelsTr" / "BRATS_001.nii.gz", marked(3, 6))
    save(task / "imagesTs" / "BRATS_485.nii.gz", np.stack([head(seed) for seed in range(4)], 3))
    save(tmp_path / "Task09_Spleen" / "imagesTr" / "spleen_1.nii.gz", head())
    (tmp_path / "Task09_Spleen" / "dataset.json").write_text('{"modality": {"0": "CT"}}')
    if order:
        names = ", ".join(f'"{number}": "{name}"' for number, name in enumerate(order))
        (task / "dataset.json").write_text(f'{{"modality": {{{names}}}}}')
    report = medical.read(tmp_path, tmp_path / "out", 1, ("t1ce", "flair"))
    assert not report.problems
    assert [pair.label for pair in report.pairs] == [
        "Task01_BrainTumour/BRATS_001_z002", "Task01_BrainTumour/BRATS_485_z001"]
    assert report.pairs[0].classes == ("tumour",) and report.pairs[1].boxes is None
    seeds = (1, 3) if order and order[0] == "T2w" else (2, 0)
    for image, seed in zip(load(report.pairs[0]), seeds):
        wanted = medical.axial_slice(medical.normalise(medical.read_volume(save(tmp_path / "v.nii", head(seed)))), 2)
        assert np.abs(image[0].numpy() - wanted).max() <= 0.5 / 255 + 1e-6
    assert len(medical.sources(task)) == 3


def test_a_stack_without_the_volume_that_is_asked_for(tmp_path):
    save(tmp_path / "Task01" / "imagesTr" / "BRATS_001.nii.gz", np.stack([head(0), head(1)], 3))
    with pytest.raises(FusionError, match=r"BRATS_001.nii.gz: expected four dimensions with at least 4 .* 12, 2\]"):
        medical.read(tmp_path, tmp_path / "out", 1, ("t1", "t2"))


def test_nan_around_the_head_is_background(tmp_path):
    folder = case(tmp_path, "BraTS20_Training_002", seed=1)
    clean = [load(pair) for pair in medical.read(tmp_path, tmp_path / "clean", 2).pairs]
    for index, modality in enumerate(CONTRASTS):
        voxels = head(10 + index)
        voxels[voxels == 0] = np.nan
        save(folder / f"BraTS20_Training_002_{modality}.nii.gz", voxels)
    report = medical.read(tmp_path, tmp_path / "out", 2)
    assert not report.problems
    assert report.notes[0].endswith("mm; 3,840 voxels around the head are NaN and count as black")
    for pair, images in zip(report.pairs, clean):
        assert all((one == other).all() for one, other in zip(load(pair), images))


def test_headers_are_compared_before_voxels_are_read(tmp_path, monkeypatch):
    for modality, volume in (("t1", head()), ("flair", head()[:-1])):
        save(tmp_path / f"c_{modality}.nii.gz", volume)
    monkeypatch.setattr(medical, "read_volume", None)
    with pytest.raises(FusionError, match=r"c_flair\.nii\.gz: expected \[.*\] voxels at the position of c_t1\.nii\.gz"):
        medical.read(tmp_path, tmp_path / "out", 1)
