from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from fusionlib.config import PROFILES, Profile, checked, overrides, parse_settings, profile
from fusionlib.utils.errors import FusionError


def test_none_leaves_the_profile_and_zero_is_zero():
    assert profile("quick", fidelity=None, backend=None, dfh_epochs=None) == PROFILES["quick"]
    changed = profile("small", fidelity=0, dfh_epochs="3", channels=[1, 2, 3], methods=())
    assert (changed.fidelity, changed.dfh_epochs, changed.channels, changed.methods) == (0.0, 3, (1, 2, 3), ())
    assert profile("quick", detection_datasets="walk").detection_datasets == ("walk",)
    assert profile("quick", detection_datasets="").detection_datasets == profile("small").detection_datasets == ()


@pytest.mark.parametrize("value", ["[8,16,16]", "8,16,16", "(8, 16, 16)", "8, 16 , 16", [8, 16, 16], (8, 16, 16)])
def test_lists_of_numbers_as_papermill_and_the_command_line_give_them(value):
    assert profile("quick", channels=value).channels == (8, 16, 16)
    if isinstance(value, str):
        assert profile("quick", **parse_settings([f"channels={value}"])).channels == (8, 16, 16)


@pytest.mark.parametrize("value", ["mean,laplacian", "[mean, laplacian]", "['mean', \"laplacian\"]", "mean ,laplacian"])
def test_lists_of_names(value):
    assert profile("quick", methods=value).methods == ("mean", "laplacian")
    assert profile("quick", **parse_settings([f"methods={value}"])).methods == ("mean", "laplacian")


@pytest.mark.parametrize(("override", "message"), [
    ({"channels": "8,16"}, "channels must be a list of 3 whole numbers, such as 8,16,32, but is '8,16'"),
    ({"channels": [8, 16, "x"]}, "channels must be a list of 3 whole numbers"),
    ({"detect_size": 512}, "detect_size must be a list of 2 whole numbers, such as 8,16,32, but is 512"),
    ({"methods": [1, 2]}, r"methods must be a list of names, such as mean,laplacian, but is \[1, 2\]"),
])
def test_lists_of_something_else_are_told(override, message):
    with pytest.raises(FusionError, match=message):
        profile("quick", **override)


def test_the_home_folder_in_a_setting(monkeypatch):
    monkeypatch.setenv("HOME", "/of/the/user")
    assert parse_settings(["detector=~/weights.pt", "a=x~y"]) == {"detector": "/of/the/user/weights.pt", "a": "x~y"}


def test_the_settings_among_the_variables_of_a_notebook():
    variables = {"profile": "quick", "seed": 0, "fidelity": 0.0, "dfh_epochs": None, "question": "", "pd": pytest}
    assert overrides(variables) == {"seed": 0, "fidelity": 0.0}


@pytest.mark.parametrize("override, message", [
    ({"name": "huge"}, "no setting is called 'name'; choose one of seed, "),
    ({"levle": 3}, "no setting is called 'levle'"), ({"views": "both"}, "views must be one of fused, all, but is 'b"),
    ({"dfh_epochs": "many"}, "dfh_epochs must be of type int, but is 'many'"),
    ({"dfh_epochs": 2.5}, "dfh_epochs must be a whole number, but is 2.5"),
])
def test_bad_settings_are_told(override, message):
    with pytest.raises(FusionError, match=message):
        profile(**override)


def test_settings_are_plain_values_that_papermill_can_write():
    settings = ["a=3", "b=0.5", "c=(4, 8, 8)", "d=ca1", "e=True", "f=x=y", "g=4bit", "h="]
    assert parse_settings(settings) == {
        "a": 3, "b": 0.5, "c": [4, 8, 8], "d": "ca1", "e": True, "f": "x=y", "g": "4bit", "h": "",
    }
    with pytest.raises(FusionError, match="written as key=value, but this is 'level'"):
        parse_settings(["level"])


def test_a_stage_cannot_depend_on_a_setting_that_is_not_there():
    assert set(PROFILES["quick"].part("dfh_", "seed")) == {
        "seed", "dfh_batch", "dfh_epochs", "dfh_lr", "dfh_crops", "dfh_other_classes"}
    with pytest.raises(FusionError, match="no setting begins with settle"):
        PROFILES["quick"].part("dfh_", "settle")


@pytest.mark.parametrize("value", ["0", "0.0"])
def test_no_fidelity_is_no_fidelity_however_it_is_given(value):
    """On the command line, through papermill's cell after a notebook's own one, and from Python."""
    import nbformat
    from papermill.translators import PythonTranslator

    from fusionlib.experiments.suite import NOTEBOOKS

    settings = parse_settings([f"fidelity={value}"])
    assert profile("quick", **settings).fidelity == 0 != PROFILES["quick"].fidelity
    for name in ("04_text_dfh", "07_ablations"):
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
        variables = {}
        exec(next(c.source for c in cells if "parameters" in c.metadata.get("tags", [])), variables)
        exec(PythonTranslator.codify(settings), variables)
        assert overrides(variables)["fidelity"] == 0 and profile("quick", **overrides(variables)).fidelity == 0


def test_the_choices_are_those_of_the_code():
    from fusionlib.feedback.backends import BACKENDS
    from fusionlib.models.fusion_network import MERGES, NORMS, OUTPUTS
    from fusionlib.models.losses import FUSION_LOSSES
    from fusionlib.models.text_dfh import VARIANTS
    from fusionlib.training.restoration import READS
    from fusionlib.training.trainer import OPTIMIZERS, SCHEDULES

    kinds = get_type_hints(Profile).items()
    assert {name: set(get_args(kind)) for name, kind in kinds if get_origin(kind) is Literal} == {
        "amp": {"no", "bf16", "fp16"}, "optimizer": {*OPTIMIZERS}, "schedule": {*SCHEDULES},
        "fusion_merge": {*MERGES}, "fusion_norm": {*NORMS},
        "fusion_output": {*OUTPUTS}, "fusion_loss": {*FUSION_LOSSES}, "fusion_init": {"identity", "maximum", "random"},
        "backend": {*BACKENDS}, "views": {"fused", "all"}, "variant": {*VARIANTS},
        "restoration_reads": {*READS} - {"nothing"},
    }  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_passes_its_own_check(name):
    values = {field.name: getattr(PROFILES[name], field.name) for field in fields(Profile)[1:]}
    assert profile("paper", **values) == profile("paper", **{key: str(value) if type(value) is int else value
                                                             for key, value in values.items()})  # fmt: skip
    assert vars(profile("paper", **values)) == vars(PROFILES[name]) | {"name": "paper"}


@pytest.mark.parametrize(("name", "value", "kind", "expected"), [
    ("x", "3", int, 3), ("x", 3.0, int, 3), ("x", 3, float, 3.0), ("x", "1e-3", float, 0.001), ("x", 5, str, "5"),
    ("x", True, bool, True), ("x", "a", Literal["a", "b"], "a"), ("x", [1, 2], tuple[int, int], (1, 2)),
    ("epochs", 1, int, 1), ("a_fraction", 1, float, 1.0), ("workers", 1024, int, 1024),
])
def test_values_become_their_type(name, value, kind, expected):
    found = checked(name, value, kind)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(("name", "value", "kind", "words"), [
    ("x", True, int, "of type int, but is True"), ("x", 1, bool, "of type bool, but is 1"), ("x", [], str, "type str"),
    ("x", "c", Literal["a", "b"], "one of a, b, but is 'c'"), ("x", None, int, "of type int"),
    ("epochs", 0, int, "at least 1 and finite"), ("a_fraction", 1.1, float, "at most 1,"),
    ("x", 2**31, int, "at most 2147483647"), ("x", float("nan"), float, "at least 0 and finite"),
    ("x", "9" * 5000, int, "of type int"), ("x", "a" * 500, int, "a{90}"),
    ("detect_size", (32, 33), tuple[int, int], "multiples of 32"), ("x", (0, 1), tuple[int, int], "numbers from 1"),
])
def test_other_values_are_told_in_short(name, value, kind, words):
    with pytest.raises(FusionError, match=f"{name} must be .*{words}") as error:
        checked(name, value, kind)
    assert len(str(error.value)) < 200
