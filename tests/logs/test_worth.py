"""What somebody who names items in the terminal is taken to have done with them."""

import numpy as np
import pytest

from recsys.config import PrepareConfig, RewardConfig, SplitConfig
from recsys.logs.prepare import prepare
from recsys.logs.prepared import open_prepared
from recsys.logs.worth import best_feedback

STARS = RewardConfig(
    base={"rating": -1.6, "click": 0.2, "wish": 5.0}, per_log_value={"rating": 1.45, "visit": 0.1}
)


def worth(write_log, tmp_path, events, reward=STARS):
    """Return the type by name, and what it is worth, in a log of (type, value) events."""
    rows = [(f"e{place}", "u", "s", "x", kind, place, value) for place, (kind, value) in enumerate(events)]
    prepare(
        PrepareConfig(log=write_log(rows), split=SplitConfig(kind="users"), reward=reward),
        7,
        tmp_path / "out",
    )
    log = open_prepared(tmp_path / "out")
    code, reward_of_liked = best_feedback(log)
    return log.info.event_types[code], reward_of_liked


def test_a_rating_is_worth_what_liked_films_were_given_not_its_base(write_log, tmp_path):
    kind, reward = worth(write_log, tmp_path, [("rating", 1.0), ("rating", 4.0), ("rating", 5.0)])
    assert kind == "rating"
    assert reward == pytest.approx(-1.6 + 1.45 * (np.log(5) + np.log(6)) / 2, rel=1e-5)


def test_the_type_of_the_highest_mean_is_chosen_among_those_that_occur(write_log, tmp_path):
    """Nobody wishes for anything; ratings are worth (−0.59 + 1.0) / 2 in the mean, visits 0.46 and clicks 0.2."""
    events = [("rating", 1.0), ("rating", 5.0), ("click", None), ("visit", 99.0), ("impression", None)]
    reward = STARS.model_copy(update={"base": {**STARS.base, "impression": 9.0}})
    assert worth(write_log, tmp_path, events, reward) == ("visit", pytest.approx(0.1 * np.log(100), rel=1e-5))


def test_where_nothing_was_liked_the_mean_stands_in(write_log, tmp_path):
    kind, reward = worth(write_log, tmp_path, [("rating", 1.0), ("rating", 1.0)])
    assert (kind, reward) == ("rating", pytest.approx(-1.6 + 1.45 * np.log(2), rel=1e-5))
