"""The dynamics of the simulated world do what its docs say, and chance follows the seed."""

from dataclasses import fields, replace

import numpy as np
import pytest

from recsys.errors import UserError
from recsys.logs.simulator import CLICK, KINDS, NONE, PURCHASE, UserState, WorldSettings, make_world
from recsys.logs.simulator_policies import LoggingSettings, logging_policy, random_policy, run_policy
from tests.logs.simulator_worlds import SMALL, small_world

USERS = 40_000


def users_in(count=USERS, **state):
    """Return users of one hidden state."""
    given = {"type": 0, "segment": 0, "recent": 0, "trust": 2, "boredom": 0} | state
    return UserState(**{name: np.full(count, value, np.int32) for name, value in given.items()})


def item_of(world, topic, kind):
    return int(np.flatnonzero((world.topic == topic) & (world.kind == KINDS.index(kind)))[0])


def shown(world, users, item, seed=0):
    return world.step(users, np.full(len(users), item), np.random.default_rng(seed))


def near(count, probability):
    """Return four standard errors of a share."""
    return pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / count) + 1e-12)


def test_the_last_topics_satiate_and_others_refresh():
    """Memory 2, freshness 1, .6, .2 by count: topic 0 shown twice, then others, as response probabilities tell."""
    world = small_world()
    item, other = item_of(world, 0, "plain"), item_of(world, 1, "plain")
    fresh = world.taste[0, 0] * 0.86 * 0.65 * world.appeal[0, item]
    recent, shares = 0, []
    for topic in (0, 0, 0, 1, 1, 0):
        shares.append(world.response_probability(users_in(1, recent=recent), np.array([item]))[0] / fresh)
        recent = int(world.after[recent, topic])
    assert shares == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.6, 1.0])
    assert world.topic[other] == 1


def test_responses_clicks_and_purchases_have_their_probabilities_and_rewards():
    world = small_world(purchase_share=(0.0, 0.02, 0.4))
    item = item_of(world, 0, "lasting")
    outcome = shown(world, users_in(), item)
    p = float(world.response_probability(users_in(1), np.array([item]))[0])
    assert (outcome.response == PURCHASE).mean() == near(USERS, 0.4 * p)
    assert (outcome.response == CLICK).mean() == near(USERS, 0.6 * p)
    assert set(zip(outcome.response.tolist(), outcome.reward.tolist(), strict=True)) == {
        (NONE, 0.0),
        (CLICK, 0.2),
        (PURCHASE, 1.0),
    }


def test_bait_costs_trust_and_lasting_items_earn_it_but_only_if_responded_to():
    world = small_world()
    for kind, move in (("bait", -1), ("plain", 0), ("lasting", 1)):
        outcome = shown(world, users_in(), item_of(world, 0, kind))
        responded = outcome.response != NONE
        moved = outcome.users.trust - 2
        assert not moved[~responded].any()
        if move:
            assert (moved[responded] == move).mean() == near(responded.sum(), 0.8)
            assert set(moved[responded]) == {0, move}
        else:
            assert not moved.any()
    top = shown(world, users_in(trust=4), item_of(world, 0, "lasting"))
    bottom = shown(world, users_in(trust=0), item_of(world, 0, "bait"))
    assert top.users.trust.max() == 4
    assert bottom.users.trust.min() == 0


@pytest.mark.parametrize("boredom", [0, 1, 2])
def test_boredom_grows_without_response_and_ends_sessions(boredom):
    world = small_world()
    outcome = shown(world, users_in(boredom=boredom), item_of(world, 0, "plain"))
    silent = outcome.response == NONE
    goes_on = ~outcome.session_ended
    assert set(outcome.users.boredom[goes_on & ~silent]) == {0}
    assert set(outcome.users.boredom[goes_on & silent]) == {min(boredom + 1, 2)}
    assert outcome.session_ended[~silent].mean() == near((~silent).sum(), 0.05)
    assert outcome.session_ended[silent].mean() == near(silent.sum(), (0.05, 0.1, 0.18)[min(boredom + 1, 2)])


@pytest.mark.parametrize("trust", [0, 4])
def test_who_trusts_comes_back_rested_and_the_others_are_gone(trust):
    world = small_world(session_end=(1.0, 1.0, 1.0))
    outcome = shown(world, users_in(trust=trust, recent=5, boredom=1), item_of(world, 0, "plain"))
    assert outcome.session_ended.all()
    assert 1 - outcome.terminated.mean() == near(USERS, world.settings.return_share[trust])
    assert not outcome.users.recent.any()
    assert not outcome.users.boredom.any()
    assert outcome.gap_s.min() >= 6 * 3600


def test_only_ended_sessions_terminate_and_gaps_tell_them_apart():
    world = small_world()
    outcome = shown(world, users_in(), item_of(world, 0, "plain"))
    assert outcome.session_ended[outcome.terminated].all()
    assert outcome.gap_s[~outcome.session_ended].min() >= 20
    assert outcome.gap_s[~outcome.session_ended].max() <= 120
    assert outcome.gap_s[outcome.session_ended].mean() / 3600 == pytest.approx(46, rel=0.1)


def test_segments_tell_types_apart_as_stated():
    world = small_world()
    users = world.begin(USERS, np.random.default_rng(0))
    for kind in range(3):
        shares = np.bincount(users.segment[users.type == kind], minlength=2) / (users.type == kind).sum()
        assert shares[0] == near((users.type == kind).sum(), (0.9, 0.1, 0.9)[kind])
    assert world.segment_share.sum(axis=1) == pytest.approx(1.0)


def test_a_segment_without_types_is_shown_what_everybody_is():
    world = make_world(WorldSettings(items=8, types=2, segments=3, segment_fidelity=1.0), 0)
    assert world.type_share.sum(axis=0) == pytest.approx(1.0)
    assert world.type_share[:, 2] == pytest.approx(0.5)
    assert logging_policy(world).probability.sum(axis=1) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_world_and_lives_another_seed_others():
    one, same, other = (make_world(SMALL, seed) for seed in (1, 1, 2))
    for part in fields(one):
        if isinstance(getattr(one, part.name), np.ndarray):
            assert np.array_equal(getattr(one, part.name), getattr(same, part.name)), part.name
    assert not np.array_equal(one.appeal, other.appeal)
    lives = [
        run_policy(one, random_policy(one), 50, np.random.default_rng(seed)).returns for seed in (1, 1, 2)
    ]
    assert np.array_equal(lives[0], lives[1])
    assert not np.array_equal(lives[0], lives[2])


def test_the_step_limit_truncates():
    world = small_world()
    lives = run_policy(world, random_policy(world), 500, np.random.default_rng(0), max_steps=3)
    assert lives.steps.max() == 3
    assert lives.truncated.any()
    assert not lives.truncated[lives.steps < 3].any()


@pytest.mark.parametrize("temperature", [0.05, 0.7, 5.0])
def test_propensities_sum_to_one_and_are_how_often_items_are_shown(temperature):
    world = small_world()
    policy = logging_policy(world, LoggingSettings(temperature=temperature))
    assert policy.probability.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert policy.probability.min() >= 0.1 / 40
    users = users_in(200_000, segment=1)
    item, propensity = policy.act(users, np.random.default_rng(0))
    assert np.array_equal(propensity, policy.probability[1, item])
    counts = np.bincount(item, minlength=40)
    expected = 200_000 * policy.probability[1]
    assert ((counts - expected) ** 2 / expected).sum() < 90  # χ² of 39 degrees: 1 in 200,000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": 0}, r"items is 0, must be at least 1"),
        ({"memory": 9}, r"states, must be at most 2,000,000; lower topics, memory or types"),
        ({"freshness": (1.0,)}, r"freshness has 1 numbers, must have 4"),
        ({"attraction": (0.5, 1.5, 0.5)}, r"attraction is \(0.5, 1.5, 0.5\), must lie in 0 to 1"),
        ({"trust_move": (float("nan"), 0.0, 0.0)}, r"trust_move is .* must lie in 0 to 1"),
        ({"first_trust": 5}, r"first_trust is 5, must be below 5"),
        ({"return_share": (1.0,) * 5}, r"never leave"),
        ({"session_end": (0.0, 0.1, 0.2)}, r"never leave"),
    ],
)
def test_a_world_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        replace(WorldSettings(), **changes)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"temperature": float("nan")}, {"exploration": 1.5}]
)
def test_a_logging_policy_that_cannot_be_is_refused(settings):
    with pytest.raises(UserError, match="must"):
        LoggingSettings(**settings)
