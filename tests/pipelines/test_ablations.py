"""The table of ablations: every variant is a valid config that changes something, differences are paired by user."""

from pathlib import Path

import pytest

from pipelines.experiments.ablations import BLOCKS, FULL, config_of, difference, markdown, parsed


def asked_for(tmp_path: Path) -> list[str]:
    return ["--out", str(tmp_path / "out.json"), "--runs", str(tmp_path)]


@pytest.mark.parametrize(
    ("block", "variant"), [(name, v) for name, block in BLOCKS.items() for v in block.variants if v != FULL]
)
def test_every_variant_is_a_config_that_differs_from_the_full_one(
    block: str, variant: str, tmp_path: Path
) -> None:
    asked, rungs = parsed(asked_for(tmp_path)), BLOCKS[block]
    full = config_of(asked, rungs.rewards, 7)
    other = config_of(asked, rungs.training_rewards(variant), 7, rungs.variants[variant])
    assert other.model_dump(exclude={"name"}) != full.model_dump(exclude={"name"})


def test_revenue_is_what_a_purchase_is_worth_and_flattened_rewards_forget_it(tmp_path: Path) -> None:
    asked, block = parsed(asked_for(tmp_path)), BLOCKS["revenue"]
    revenue = config_of(asked, block.rewards, 7).prepare.reward
    assert (revenue.base["purchase"], revenue.per_log_value["purchase"]) == (0.0, 0.4)
    flat = config_of(asked, block.training_rewards("rewards flattened"), 7).prepare.reward
    assert (flat.base["purchase"], flat.per_log_value) == (1.0, {})


def one_seed(users: list[int], marks: list[float]) -> dict[str, object]:
    return {
        "validation": 0.5,
        "users": users,
        **dict.fromkeys(("ndcg", "ndcg@k=5", "ndcg@k=10", "weighted"), marks),
    }


def test_differences_are_paired_by_user_whatever_their_order_and_averaged_over_shared_seeds() -> None:
    full = {"7": one_seed([1, 2], [0.1, 0.5]), "8": one_seed([2, 1], [0.3, 0.1])}
    variant = {
        "7": one_seed([2, 1], [0.6, 0.2]),
        "8": one_seed([1, 2], [0.2, 0.4]),
        "9": one_seed([1], [9.0]),
    }
    found = difference(variant, full, "ndcg")
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert difference({"9": one_seed([1], [1.0])}, full, "ndcg") is None
    table = markdown({"log": "a", "blocks": {"own rewards": {FULL: full, "other": variant}}})
    assert "| full | 7 8 | 0.5000 | 0.2500 | 0.2500 | 0.2500 | 0.2500 |  |  |" in table
    assert "+0.1000 [+0.1000, +0.1000]" in table


def test_an_unknown_variant_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--out", "x", "--variants", "fool"])
    assert "choose among 8 quantiles" in capsys.readouterr().err
