"""The served object replayed on its own log: it sees the past alone, and the estimates are right."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.offline import Report, evaluate_log
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.evaluation.replay.log import from_parquet, from_table
from recsys.evaluation.replay.policies import FunctionPolicy, Request, ServedPolicy, random_policy
from recsys.evaluation.replay.verdict import Evaluation, may_pass
from recsys.evaluation.report.html import as_html
from recsys.evaluation.report.terminal import show
from recsys.policies.exploration import ListDistribution
from tests.evaluation.replay.conftest import Shop

CLICKS = ReplayOptions(reward=RewardConfig(base={"click": 1.0}))


def evaluated(
    shop: Shop, log: pa.Table | None = None, options: ReplayOptions = CLICKS, **how: object
) -> Evaluation:
    report = evaluate_log(
        from_table(shop.log if log is None else log),
        ServedPolicy(shop.better, "better"),
        ServedPolicy(shop.champion, "champion"),
        options,
        **how,  # type: ignore[arg-type]
    )
    return report.evaluation


@pytest.fixture(scope="module")
def evaluation(shop: Shop) -> Evaluation:
    return evaluated(shop)


def printed(evaluation: Evaluation, *, verbose: bool = False) -> str:
    page = io.StringIO()
    show(evaluation, Console(file=page, width=200), verbose=verbose)
    return page.getvalue()


def estimate(evaluation: Evaluation, policy: str, estimator: str) -> float:
    rows = evaluation.estimates
    return next(row.value for row in rows if (row.policy, row.estimator) == (policy, estimator))


def gate(evaluation: Evaluation, name: str, policy: str | None = None) -> str:
    gates = evaluation.self_tests if policy is None else evaluation.gates[policy]
    return next(each.verdict for each in gates if each.name == name)


def test_a_better_policy_is_called_better_and_its_value_is_right(shop: Shop, evaluation: Evaluation) -> None:
    assert evaluation.decision == "better"
    assert evaluation.sentence.startswith("better is better than champion: +")
    gain = evaluation.differences[0]
    assert gain.low <= shop.better_value - shop.logged_value <= gain.high
    for estimator in ("dr", "snips", "sndr"):
        assert estimate(evaluation, "better", estimator) == pytest.approx(shop.better_value, rel=0.06)
    assert may_pass(evaluation, "better")
    assert not may_pass(replace(evaluation, decision="cannot say"), "not-worse", margin=1.0)


def test_the_other_way_round_it_is_worse(shop: Shop) -> None:
    report = evaluate_log(
        from_table(shop.log),
        ServedPolicy(shop.champion, "champion"),
        ServedPolicy(shop.better, "better"),
        CLICKS,
        self_test=False,
    )
    assert report.evaluation.decision == "worse"
    assert not may_pass(report.evaluation, "not-worse", margin=0.01)


def test_the_policy_that_logged_returns_its_own_mean(shop: Shop, evaluation: Evaluation) -> None:
    """A/A: propensities computed anew from the store's view of each user are those that were logged."""
    earned = estimate(evaluation, "logging", "mean reward")
    assert estimate(evaluation, "champion", "snips") == pytest.approx(earned, rel=1e-5)
    own = [each for each in evaluation.self_tests if each.name == "A/A: propensities recomputed"]
    assert own[1].verdict == "pass"
    assert own[1].value is not None
    assert own[1].value < 1e-5


def test_two_runs_are_bit_identical(shop: Shop, evaluation: Evaluation) -> None:
    assert evaluated(shop) == evaluation


def test_buckets_of_users_change_nothing(shop: Shop, evaluation: Evaluation, tmp_path: object) -> None:
    path = shop.folder / "bucketed"
    path.mkdir(exist_ok=True)
    shuffled = shop.log.take(pa.array(np.random.default_rng(0).permutation(len(shop.log))))
    pq.write_table(shuffled, path / "events.parquet")
    source = from_parquet(path, rows_per_bucket=3_000)
    assert source.buckets > 3
    report = evaluate_log(
        source, ServedPolicy(shop.better, "better"), ServedPolicy(shop.champion, "champion"), CLICKS
    )
    again = {(row.policy, row.estimator): row.value for row in report.evaluation.estimates}
    assert again == pytest.approx({(row.policy, row.estimator): row.value for row in evaluation.estimates})


class Peeks:
    """A policy that knows the whole log: it prefers what a user will click later."""

    name, reads_impressions = "peeks", False

    def __init__(self, log: pd.DataFrame, items: list[str]) -> None:
        clicked = log[log[c.EVENT_TYPE] == c.CLICK]
        self.item_ids = items
        self._later = clicked.groupby("who")[c.ITEM_ID].agg(set).to_dict()

    def distribution(self, request: Request) -> ListDistribution:
        favourites = self._later.get(request.user, set())
        weights = np.array([20.0 if item in favourites else 1.0 for item in self.item_ids])
        return ListDistribution.softmax(np.arange(len(weights), dtype=np.int32), np.log(weights))


def test_a_policy_that_knows_the_future_is_found_out(shop: Shop) -> None:
    items = list(shop.champion.catalogue.item_ids)
    source = from_table(shop.log)
    made = lambda log: {"peeks": Peeks(next(iter(log)), items)}  # noqa: E731
    report = evaluate_log(source, made(source)["peeks"], options=CLICKS, make=made)
    assert gate(report.evaluation, "leak: the future shuffled") == "fail"
    assert report.evaluation.refused
    assert "knows the future" in report.evaluation.sentence


def test_served_objects_see_no_future(evaluation: Evaluation) -> None:
    assert gate(evaluation, "leak: the future shuffled") == "pass"


def test_requests_know_what_came_before_them_and_nothing_else(shop: Shop) -> None:
    seen: list[Request] = []

    def weights(request: Request) -> np.ndarray:
        seen.append(request)
        assert all(event.timestamp < request.timestamp for event in request.events)
        return np.ones(len(shop.champion.catalogue))

    policy = FunctionPolicy("watch", shop.champion.catalogue.item_ids, weights)
    evaluate_log(from_table(shop.log), policy, options=CLICKS, self_test=False)
    clicks = pc.sum(pc.equal(shop.log[c.EVENT_TYPE], c.CLICK)).as_py()
    assert 0 < max(len(request.events) for request in seen) < clicks
    by_user: dict[str, list[Request]] = {}
    for request in seen:
        by_user.setdefault(request.user, []).append(request)
    for requests in by_user.values():  # in time order, with histories that grow
        assert [r.timestamp for r in requests] == sorted(r.timestamp for r in requests)
        assert [len(r.events) for r in requests] == sorted(len(r.events) for r in requests)


def test_wrong_propensities_are_refused(shop: Shop) -> None:
    place = shop.log.column_names.index(c.PROPENSITY)
    doubled = pc.min_element_wise(pc.multiply(shop.log[c.PROPENSITY], 1.6), 1.0)
    wrong = evaluated(shop, shop.log.set_column(place, c.PROPENSITY, doubled), self_test=False)
    assert wrong.refused
    assert gate(wrong, "mean weight", "champion") == "fail"
    assert gate(wrong, "A/A: propensities recomputed") == "warn"  # the challenger made no list
    assert "cannot say" in wrong.sentence


def test_a_log_without_overlap_is_refused_whatever_its_effective_sample_size(shop: Shop) -> None:
    ids = shop.champion.catalogue.item_ids
    never = np.array([1.0 if place >= len(ids) // 2 else 0.02 for place in range(len(ids))])
    half = pa.array(list(ids[: len(ids) // 2]))
    lists = shop.log.filter(pc.is_in(shop.log[c.ITEM_ID], half))
    single = lists.filter(pc.equal(pc.fill_null(lists[c.POSITION], 0), 0))
    policy = FunctionPolicy("elsewhere", ids, lambda request: never)
    report = evaluate_log(from_table(single), policy, options=CLICKS, self_test=False)
    assert report.evaluation.refused
    assert not report.evaluation.may_be_told(report.evaluation.differences[0])
    differences = as_html(report.evaluation).split("May these logs say so?")[0]
    assert ">cannot say<" in differences.split("<table")[1]
    assert f"{report.evaluation.differences[0].relative:+.1%}" not in differences
    assert gate(report.evaluation, "mean weight", "elsewhere") == "fail"
    assert gate(report.evaluation, "support", "elsewhere") == "fail"
    assert (
        gate(report.evaluation, "effective sample size", "elsewhere") == "pass"
    )  # which alone would have lied


def test_a_metric_on_training_users_is_refused(shop: Shop) -> None:
    later = evaluated(shop, self_test=False, trained_until_s=1_700_000_000.0 + 86_400 * 3)
    assert later.refused
    assert "what the policy was trained on" in later.sentence
    before = evaluated(shop, self_test=False, trained_until_s=1_690_000_000.0)
    assert before.decision == "better"


def test_cohorts_add_up_and_small_cells_say_so(evaluation: Evaluation) -> None:
    rows = [row for row in evaluation.cohorts if row.segment == "events used"]
    assert [row.cell for row in rows][:3] == ["0", "1–2", "3–4"]
    assert sum(row.lists for row in rows) == 2800
    total = sum(row.lists * row.difference for row in rows) / 2800
    assert total == pytest.approx(evaluation.differences[0].value, abs=1e-9)
    assert {row.enough for row in rows if row.effective < 100} <= {False}
    assert any(row.enough for row in rows)


def test_the_terminal_says_the_verdict_first_and_every_estimator_only_where_asked(
    evaluation: Evaluation,
) -> None:
    said = printed(evaluation)
    assert said.startswith("better: better is better than champion")
    order = [said.index(title) for title in ("differences", "gates and self-tests passed", "cohorts")]
    assert order == sorted(order)
    assert "sndr" not in said
    assert "sndr" in printed(evaluation, verbose=True)


def test_the_terminal_prints_no_number_of_a_small_cell(evaluation: Evaluation) -> None:
    row = evaluation.cohorts[0]
    small = replace(evaluation, cohorts=(replace(row, effective=99.0, enough=False),))
    assert f"{row.difference:.4g}" in printed(replace(evaluation, cohorts=(row,)))
    assert f"{row.difference:.4g}" not in printed(small)
    assert "too few" in printed(small)


def test_what_is_known_of_users_makes_cohorts(shop: Shop) -> None:
    attributes = {f"u{user}": {"country": "UK" if user % 3 else "France"} for user in range(600)}
    found = evaluated(shop, self_test=False, attributes=attributes)
    rows = {row.cell: row for row in found.cohorts if row.segment == "country"}
    assert {cell: row.lists for cell, row in rows.items()} == {"France": 800, "UK": 1600, "unknown": 400}
    assert all(row.enough and row.low < row.difference < row.high for row in rows.values())


def test_estimated_propensities_are_said_to_be(shop: Shop) -> None:
    place = shop.log.column_names.index(c.PROPENSITY)
    bare = shop.log.set_column(place, c.PROPENSITY, pa.nulls(len(shop.log), pa.float64()))
    with pytest.raises(UserError, match="and propensity, or --set estimate_propensities=true"):
        evaluated(shop, bare)
    clicks = shop.log.filter(pc.equal(shop.log[c.EVENT_TYPE], c.CLICK))
    with pytest.raises(UserError, match=r"no impressions at all\); impressions need .* and propensity$"):
        evaluated(shop, clicks)
    options = replace(CLICKS, assumption="independent")
    found = evaluated(shop, bare, options, estimate_propensities=True, self_test=False)
    assert gate(found, "propensities", "better") == "warn"
    if not found.refused:
        assert "estimated" in found.sentence


def test_random_is_a_policy_too(shop: Shop) -> None:
    report = evaluate_log(
        from_table(shop.log), random_policy(shop.champion.catalogue), options=CLICKS, self_test=False
    )
    assert isinstance(report, Report)
    assert report.evaluation.against == "logging"


def test_items_that_were_bought_and_never_shown_are_unknown_to_the_reward_model_and_no_more(
    shop: Shop,
) -> None:
    ids = [*shop.champion.catalogue.item_ids, "x", "y", "z"]
    last = shop.log.to_pylist()[-1]
    bought = [
        {**dict.fromkeys(last), c.EVENT_ID: f"organic-{item}", c.USER_ID: "somebody", c.ITEM_ID: item}
        | {c.EVENT_TYPE: c.CLICK, c.TIMESTAMP: last[c.TIMESTAMP]}
        for item in ("x", "y", "z")
    ]
    loose = pa.schema([field.with_nullable(True) for field in shop.log.schema])
    log = pa.concat_tables([shop.log.cast(loose), pa.Table.from_pylist(bought, schema=loose)])
    report = evaluate_log(from_table(log), random_policy(ids), options=CLICKS, self_test=False)
    assert isinstance(report, Report)
    assert report.evaluation.against == "logging"


def test_a_function_with_bad_weights_is_named(shop: Shop) -> None:
    policy = FunctionPolicy("mine", shop.champion.catalogue.item_ids, lambda request: [1.0, -1.0])
    with pytest.raises(UserError, match=r"mine gave weights of shape \(2,\)"):
        evaluate_log(from_table(shop.log), policy, options=CLICKS)
