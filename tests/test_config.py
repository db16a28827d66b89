import pytest

from fusionlib.config import PROFILES, overrides, parse_settings, profile
from fusionlib.utils.errors import FusionError


def test_none_leaves_the_profile_and_zero_is_zero():
    assert profile("quick", fidelity=None, backend=None, dfh_epochs=None) == PROFILES["quick"]
    changed = profile("small", fidelity=0, dfh_epochs="3", channels=[1, 2, 3], methods=())
    assert (changed.fidelity, changed.dfh_epochs, changed.channels, changed.methods) == (0.0, 3, (1, 2, 3), ())
    assert profile("quick", detection_datasets="walk").detection_datasets == ("walk",)
    assert profile("quick", detection_datasets="").detection_datasets == profile("small").detection_datasets == ()


def test_the_settings_among_the_variables_of_a_notebook():
    variables = {"profile": "quick", "seed": 0, "fidelity": 0.0, "dfh_epochs": None, "question": "", "pd": pytest}
    assert overrides(variables) == {"seed": 0, "fidelity": 0.0}


@pytest.mark.parametrize("override, message", [
    ({"name": "huge"}, "quick, small, paper"), ({"levle": 3}, "no setting is called 'levle'"),
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
    assert set(PROFILES["quick"].part("dfh_", "seed")) == {"seed", "dfh_batch", "dfh_epochs", "dfh_lr"}
    with pytest.raises(FusionError, match="no setting begins with settle"):
        PROFILES["quick"].part("dfh_", "settle")
