"""The experiment on what is served: every variant is a config that resolves, the table has a row for who played."""

import argparse
from pathlib import Path

import pytest

from pipelines.experiments import served_value


@pytest.mark.parametrize("name", served_value.VARIANTS)
def test_every_variant_learns_from_the_same_log_into_a_run_of_its_own(name: str) -> None:
    asked = argparse.Namespace(work=Path("work"), set=["pretrain.epochs=3"])
    config = served_value.run_config(name, 8, Path("log"), asked)
    assert (config.seed, config.prepare.log.path, config.pretrain.epochs) == (8, Path("log"), 3)
    assert (config.output / config.name).name == f"{name.replace(' ', '-')}-8"
    assert (config.prepare.impressions == "actions") == (name != "ranker")
    assert (config.pretrain.discount == 0) == (name == "myopic")


def test_the_table_sets_who_played_beside_policies_that_know_the_rules() -> None:
    played = {"served": {"return": 2.0, "half": 0.1}, "health": {"over_estimation": 2.1}}
    worlds = {
        "7": {"known": {"random": {"return": 0.634}}, "feed": played},
        "8": {"known": {"random": {"return": 0.7}}},
    }
    assert served_value.markdown({"worlds": worlds}).splitlines() == [
        "| policy | 7 | 8 |",
        "|---|---|---|",
        "| random | 0.63 | 0.70 |",
        "| feed: served | 2.00 ± 0.10 |  |",
    ]


def test_promises_stand_beside_what_came_and_what_the_log_says() -> None:
    health = {"over_promise": 1.1, "calibration_error": 0.5, "mean_return": 0.25}
    parts = {"teacher": {"predicted_over_discounted": 1.2}, "health": health}
    unasked = {**parts, "health": {**health, "over_promise": None}}
    worlds = {"7": {"known": {}, "feed": parts}, "8": {"ranker": {"health": health}, "myopic": unasked}}
    assert served_value.promises({"worlds": worlds}).splitlines()[2:] == [
        "| feed | 7 | 1.20 | 1.10 | 2.00 |",
        "| myopic | 8 | 1.20 |  | 2.00 |",
    ]


def test_an_unknown_variant_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        served_value.main(
            ["--work", str(tmp_path), "--out", str(tmp_path / "out.json"), "--variants", "feed,best"]
        )
    assert "--variants names best; choose among feed" in capsys.readouterr().err
