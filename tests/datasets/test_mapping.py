"""A mapping says enough and no more, or is refused in one line."""

import pytest

from recsys.datasets.mapping import load_mapping
from recsys.errors import UserError

GOOD = """
event_type = "click"
session_gap_minutes = 30
[columns]
user_id = "u"
item_id = "i"
timestamp = "t"
"""


def test_a_short_mapping_is_enough(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(GOOD)
    mapping = load_mapping(path)
    assert (mapping.columns.user_id, mapping.session_gap_minutes, mapping.event_type) == ("u", 30, "click")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "[", "is not TOML"),
        ('event_type = "click"\n', "", "give either columns.event_type or a constant event_type"),
        ("session_gap_minutes = 30\n", "", "give either columns.session_id or session_gap_minutes"),
        ("= 30", "= 0", "session_gap_minutes: Input should be greater than 0"),
        ('user_id = "u"\n', "", "give columns.user_id, columns.session_id or both"),
        ('item_id = "i"\n', "", "columns.item_id: Field required"),
        (
            "[columns]",
            "[time]\nformat = '%Y'\nunit = 's'\n[columns]",
            "give time.format or time.unit, not both",
        ),
        ("[columns]", "separator = ', '\n[columns]", "separator: String should have at most 1 character"),
        ("[columns]", "colour = 1\n[columns]", "colour: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_mapping_is_refused_in_one_line(tmp_path, old, new, message):
    path = tmp_path / "mapping.toml"
    path.write_text(GOOD.replace(old, new, 1) if old else new)
    with pytest.raises(UserError, match=message) as error:
        load_mapping(path)
    assert "\n" not in str(error.value)


def test_a_missing_mapping_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no mapping at .*absent.toml; name yours in a copy of the config"):
        load_mapping(tmp_path / "absent.toml")
