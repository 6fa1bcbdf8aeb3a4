"""The update that ranks also balances a pole: a short run of what `pipelines.experiments.cartpole` runs to the end."""

from dataclasses import replace

from pipelines.experiments.cartpole import run
from pipelines.experiments.cartpole_presets import PRESETS

SHORT = replace(
    PRESETS["quick"], hidden=(64, 64), learning_rate=1e-3, batch_size=64, n_step=5, first_update=500
)


def test_a_short_run_balances_far_longer_than_chance() -> None:
    assert run("ours", SHORT, 11_000, seed=1).mean_return > 100  # pushing at random lasts about 20 steps


def test_a_run_repeats_to_the_step() -> None:
    first, second = (run("ours", SHORT, 1_500, seed=2) for _ in range(2))
    assert first.curve == second.curve
    assert first.mean_return == second.mean_return


def test_what_is_forgotten_again_does_not_count_where_the_best_is_kept() -> None:
    ruined = replace(SHORT, learning_rate=0.5, falling_rate=False, first_update=3_000, keep_best=True)
    best = run("ours", ruined, 6_000, seed=1)
    untaught = run("ours", replace(ruined, first_update=6_001), 6_000, seed=1)
    assert best.curve[0] == max(best.curve, key=lambda point: point[1])  # at random, before the first update
    assert best.mean_return == untaught.mean_return
