"""The running posterior against the full solve of the same weighted objective, and against the batched inner loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.posterior import Posterior

FEATURES = 6


def solved_at_once(
    prior_mean: np.ndarray, noise: float, forgetting: float, features: np.ndarray, evidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean, covariance) from the normal equations."""
    weight = forgetting ** np.arange(len(features))[::-1] / noise
    precision = np.eye(len(prior_mean)) + (features.T * weight) @ features
    shift = np.linalg.solve(precision, (features.T * weight) @ (evidence - features @ prior_mean))
    return prior_mean + shift, np.linalg.inv(precision)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    events=st.integers(0, 25),
    bound=st.integers(1, 12),
    forgetting=st.sampled_from([1.0, 0.97, 0.6]),
    noise=st.floats(0.05, 5.0),
)
def test_every_event_leaves_what_solving_at_once_gives(
    seed: int, events: int, bound: int, forgetting: float, noise: float
) -> None:
    generator = np.random.default_rng(seed)
    prior_mean = generator.normal(size=FEATURES)
    features = generator.normal(size=(events, FEATURES))
    posterior = Posterior(prior_mean, noise, forgetting, bound)
    asked = generator.normal(size=(5, FEATURES))
    for event in range(events):
        posterior.observe(features[event])
        kept = features[max(0, event + 1 - bound) : event + 1]
        evidence = generator.normal(size=len(kept))  # revised as a whole after every event
        mean, covariance = solved_at_once(prior_mean, noise, forgetting, kept, evidence)
        np.testing.assert_allclose(posterior.mean(evidence), mean, atol=1e-6)
        expected = np.einsum("id,de,ie->i", asked, covariance, asked)
        np.testing.assert_allclose(posterior.variance(asked), expected, atol=1e-6)
    assert len(posterior) == min(events, bound)


def test_no_event_leaves_the_prior_exactly() -> None:
    posterior = Posterior([1.0, -2.0], 0.5)
    assert posterior.mean([]).tolist() == [1.0, -2.0]
    assert posterior.variance([[1.0, 2.0]]).tolist() == [5.0]


def test_draws_have_the_posterior_mean_and_covariance() -> None:
    generator = np.random.default_rng(3)
    features, evidence = generator.normal(size=(4, FEATURES)), generator.normal(size=4)
    posterior = Posterior(np.ones(FEATURES), 0.3, 0.8)
    for row in features:
        posterior.observe(row)
    drawn = posterior.sample(evidence, 200_000, generator)
    mean, covariance = solved_at_once(np.ones(FEATURES), 0.3, 0.8, features, evidence)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.015)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.02)


def test_it_agrees_with_the_batched_inner_loop() -> None:
    from tests.test_adaptation import random_prior, random_support

    prior, (features, support) = random_prior(), random_support(shots=(6, 3, 1, 0))
    with torch.no_grad():
        prior.log_decay.fill_(-1.0)
    fast = prior.adapt(features, support)
    noise = float(torch.exp(prior.log_noise.detach()))
    forgetting = float(torch.exp(-torch.nn.functional.softplus(prior.log_decay.detach())))
    evidence = prior.evidence(support).detach().numpy()
    for row, shots in enumerate((6, 3, 1, 0)):
        posterior = Posterior(prior.mean.detach().numpy(), noise, forgetting)
        for event in range(shots):
            posterior.observe(features[row, event].numpy())
        expected = posterior.mean(evidence[row, :shots])
        np.testing.assert_allclose(fast.mean[row].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"noise": 0.0}, "noise is 0.0, must be above 0"),
        ({"noise": 1.0, "forgetting": 1.5}, r"forgetting is 1.5, must lie in \(0, 1\]"),
        ({"noise": 1.0, "max_events": 0}, "max_events is 0, must be at least 1"),
    ],
)
def test_settings_out_of_bounds_are_named(settings_: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Posterior(np.zeros(2), **settings_)  # type: ignore[arg-type]


def test_evidence_must_speak_of_every_event() -> None:
    posterior = Posterior(np.zeros(2), 1.0)
    posterior.observe([1.0, 0.0])
    with pytest.raises(ValueError, match=r"must be \(1,\)"):
        posterior.mean([1.0, 2.0])
