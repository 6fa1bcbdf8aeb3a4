"""Pictures show the numbers that they are given; a missing extra is named."""

import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import plots
from recsys.errors import UserError
from recsys.learning.health import CalibrationBin
from recsys.plots.style import PALETTE, STYLE, spread_labels

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close() -> object:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


CURVE = pd.DataFrame(
    {
        "policy": ["a", "a", "b", "b"],
        "shots": [0, 1, 0, 1],
        "mean": [0.1, 0.2, 0.1, 0.1],
        "low": [0.0, 0.1, 0.0, 0.0],
        "high": [0.2, 0.3, 0.2, 0.2],
    }
)


def test_a_curve_is_drawn_from_its_numbers_and_named_at_its_end() -> None:
    ax = plots.lines(CURVE, "shots", by="policy", xlabel="events", ylabel="NDCG", title="t", quiet=["b"])
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1, 0.2], [0.1, 0.1]]
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("events", "NDCG", "t")
    assert ax.lines[0].get_color() == PALETTE[0]
    assert ax.lines[1].get_color() not in PALETTE
    bands = [np.ptp(band.get_paths()[0].vertices[:, 1]) for band in ax.collections]
    assert bands == pytest.approx([0.3, 0.2])


def test_categories_stand_at_even_distances() -> None:
    frame = CURVE.assign(shots=pd.Categorical([0, 10, 0, 10]))
    ax = plots.lines(frame, "shots", by="policy")
    assert ax.lines[0].get_xdata().tolist() == [0, 1]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "10"]


def test_bars_stand_on_each_other() -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]}, index=["jan", "feb"])
    ax = plots.stacked(frame, {"x": "old", "y": "new"})
    tops = [bar.get_y() + bar.get_height() for bar in ax.patches]
    assert tops == [1, 2, 4, 6]


def test_concentration_ends_with_everything() -> None:
    popularity = pd.DataFrame({"cumulative": np.cumsum([0.5, 0.3, 0.1, 0.1])})
    ax = plots.concentration(popularity)
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0, 50, 80, 90, 100])
    assert any(text.get_text() == "top 50%: 80% of events" for text in ax.texts)


def test_every_value_is_in_one_bar_of_a_histogram_and_what_is_left_out_is_told() -> None:
    ax = plots.histogram([0, 1, 1, 2, 5, 1000, np.nan], log=True, xlabel="events", bins=7)
    assert sum(bar.get_height() for bar in ax.patches) == 5
    assert ax.get_xlabel() == "events (1 of 0 or less not drawn)"
    assert any("median 2" in text.get_text() for text in ax.texts)
    assert "nothing" in plots.histogram([0.0], log=True).texts[0].get_text()
    assert sum(bar.get_height() for bar in plots.histogram([3.0, 3.0]).patches) == 2


def test_intervals_reach_from_bound_to_bound_and_weak_ones_are_hollow() -> None:
    frame = pd.DataFrame({"name": ["x", "y"], "mean": [1.0, 2.0], "low": [0.5, 1.0], "high": [1.5, 3.0]})
    ax = plots.intervals(frame.assign(few=[False, True]), "name", weak="few", mark=0.0)
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2][:2]
    assert [list(map(float, bar)) for bar in bars] == [[0.5, 1.5], [1.0, 3.0]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y"]
    hollow = [line.get_markerfacecolor() == "white" for line in ax.lines if line.get_marker() == "o"]
    assert hollow == [False, True]


def test_calibration_shows_each_bin_where_it_was_predicted() -> None:
    ax = plots.calibration([CalibrationBin(0.5, 0.7, 10), CalibrationBin(1.0, 0.9, 10)])
    points = next(line for line in ax.lines if line.get_marker() == "o")
    assert (points.get_xdata().tolist(), points.get_ydata().tolist()) == ([0.5, 1.0], [0.7, 0.9])


def test_weights_say_how_many_lists_the_policy_would_never_show() -> None:
    ax = plots.weights([float("-inf"), -1.0, 0.0, 1.0], [5, 10, 5])
    assert "25% of all lists" in ax.texts[0].get_text()
    assert not plots.weights([float("-inf"), -1.0, 0.0], [0, 10]).texts


def test_an_item_leaves_a_rank_picture_where_it_leaves_the_list() -> None:
    ax = plots.ranks([["a", "b"], ["b", "c"]], ["start", "then"], names={"c": "cup"}, follow=["b"])
    by_colour = {line.get_color(): line.get_ydata().tolist() for line in ax.lines}
    assert by_colour[PALETTE[0]] == [2.0, 1.0]
    assert [text.get_text() for text in ax.texts] == ["b", "cup"]
    assert [np.isnan(line.get_ydata()).sum() for line in ax.lines] == [1, 1, 0]


def test_settings_of_the_caller_are_as_they_were() -> None:
    before = {name: mpl.rcParams[name] for name in STYLE}
    plots.panels(2)
    plots.lines(CURVE, "shots", by="policy")
    assert {name: mpl.rcParams[name] for name in STYLE} == before


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.2))
def test_labels_never_overlap_and_keep_their_order(wanted: list[float], least: float) -> None:
    placed = spread_labels(wanted, least)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= least - 1e-9).all()
    assert np.mean(placed or [0.0]) == pytest.approx(np.mean(wanted or [0.0]), abs=1e-6)


def test_labels_that_are_far_apart_stay_where_they_are() -> None:
    assert spread_labels([0.9, 0.1], 0.05) == pytest.approx([0.9, 0.1])


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"metaq\[notebooks\]"):
        plots.lines(CURVE, "shots")
