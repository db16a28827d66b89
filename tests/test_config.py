import pytest

from fusionlib.config import PROFILES, parse_settings, profile
from fusionlib.utils.errors import FusionError


def test_an_empty_override_leaves_the_profile_and_a_negative_one_is_zero():
    assert profile("quick", fidelity=0, backend="", dfh_epochs=None) == PROFILES["quick"]
    changed = profile("small", fidelity=-1, dfh_epochs="3", channels=[1, 2, 3])
    assert (changed.fidelity, changed.dfh_epochs, changed.channels) == (0.0, 3, (1, 2, 3))


@pytest.mark.parametrize("override, message", [
    ({"name": "huge"}, "quick, small, paper"), ({"levle": 3}, "no setting is called 'levle'"),
    ({"dfh_epochs": "many"}, "dfh_epochs must be of type int, but is 'many'"),
])  # fmt: skip
def test_bad_settings_are_told(override, message):
    with pytest.raises(FusionError, match=message):
        profile(**override)


def test_settings_are_plain_values_that_papermill_can_write():
    settings = ["a=3", "b=0.5", "c=(4, 8, 8)", "d=ca1", "e=True", "f=x=y", "g=4bit", "h="]
    assert parse_settings(settings) == {
        "a": 3, "b": 0.5, "c": [4, 8, 8], "d": "ca1", "e": True, "f": "x=y", "g": "4bit", "h": "",
    }  # fmt: skip
    with pytest.raises(FusionError, match="written as key=value, but this is 'level'"):
        parse_settings(["level"])
