"""Sampled losses held against the full softmax, sampling against its distribution."""

import math

import numpy as np
import pytest
import torch

from recsys.learning.losses import NegativeSampler, sampled_cross_entropy
from recsys.learning.meta import expected_hits

ITEMS = 30


def test_every_item_as_a_negative_gives_the_full_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, chosen = (
        torch.randn(7, ITEMS, generator=generator),
        torch.randint(0, ITEMS, (7,), generator=generator),
    )
    loss = sampled_cross_entropy(
        logits.gather(1, chosen[:, None])[:, 0],
        chosen,
        logits,
        torch.arange(ITEMS),
        torch.full((ITEMS,), -math.log(ITEMS)),
    )
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, chosen, reduction="none"))


def test_a_negative_that_is_the_logged_item_does_not_count() -> None:
    log_probability = torch.log(torch.tensor([0.5, 0.25, 0.25]))
    loss = sampled_cross_entropy(
        torch.tensor([1.0]),
        torch.tensor([0]),
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([0, 1]),
        log_probability,
    )
    positive, negative = 1.0 - math.log(0.5), 2.0 - math.log(0.25)
    assert float(loss) == pytest.approx(math.log1p(math.exp(negative - positive)), rel=1e-5)


def test_only_negatives_that_are_the_logged_item_cost_nothing() -> None:
    loss = sampled_cross_entropy(
        torch.tensor([1.0]), torch.tensor([2]), torch.tensor([[5.0]]), torch.tensor([2]), torch.zeros(3)
    )
    assert loss.tolist() == [0.0]


def test_the_corrected_loss_is_least_at_the_true_distribution() -> None:
    """Without the correction the minimum would be p / q, far from p."""
    generator = torch.Generator().manual_seed(0)
    popularity = np.arange(ITEMS, 0, -1).astype(np.float32) ** 2
    truth = torch.from_numpy(popularity / popularity.sum())
    sampler = NegativeSampler.from_popularity(popularity)
    logits = torch.zeros(ITEMS, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 600)
        chosen = torch.multinomial(truth, 512, replacement=True, generator=generator)
        negative = sampler.draw(20, generator)
        loss = sampled_cross_entropy(
            logits[chosen], chosen, logits[negative].expand(512, -1), negative, sampler.log_probability
        )
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    distance = 0.5 * (logits.detach().softmax(0) - truth).abs().sum()
    assert float(distance) < 0.06
    uncorrected = (truth / sampler.log_probability.exp()).softmax(0)
    assert float(0.5 * (uncorrected - truth).abs().sum()) > 0.2


def test_negatives_come_with_the_three_quarter_power_of_popularity() -> None:
    popularity = np.array([0, 1, 10, 100, 1000], np.float32)
    sampler = NegativeSampler.from_popularity(popularity)
    expected = (popularity + 1) ** 0.75 / ((popularity + 1) ** 0.75).sum()
    np.testing.assert_allclose(sampler.log_probability.exp(), expected, rtol=1e-5)
    drawn = sampler.draw(200_000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 200_000, expected, atol=0.003)


def brute_force(hit_logit: list[float], row: list[int], rivals: torch.Tensor) -> float:
    chances = []
    for task in sorted(set(row)):
        hit = sum(math.exp(z) for z, owner in zip(hit_logit, row, strict=True) if owner == task)
        chances.append(hit / (hit + sum(math.exp(z) for z in rivals[task].tolist())))
    return sum(chances) / len(chances)


def test_expected_hits_are_the_chance_of_the_policys_next_draw() -> None:
    generator = torch.Generator().manual_seed(1)
    rivals = torch.randn(4, 6, generator=generator)
    row = [0, 0, 2, 3, 3, 3]  # task 1 asks nothing
    hit_logit = torch.randn(6, generator=generator)
    found = expected_hits(hit_logit, torch.tensor(row), rivals)
    assert float(found) == pytest.approx(brute_force(hit_logit.tolist(), row, rivals), abs=1e-6)


def test_rivals_that_are_ruled_out_leave_a_certain_hit() -> None:
    rivals = torch.full((1, 3), -torch.inf)
    assert float(expected_hits(torch.tensor([0.3]), torch.tensor([0]), rivals)) == 1.0


def test_expected_hits_over_sampled_rivals_are_those_over_all() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(ITEMS, generator=generator)
    hit, others = torch.tensor([4, 9]), [i for i in range(ITEMS) if i not in (4, 9)]
    exact = float(logits.softmax(0)[hit].sum())
    assert float(
        expected_hits(logits[hit], torch.zeros(2, dtype=torch.long), logits[others][None])
    ) == pytest.approx(exact)
    sampler = NegativeSampler.from_popularity(np.arange(ITEMS).astype(np.float32))
    estimates = []
    for _ in range(200):
        negative = sampler.draw(500, generator)
        corrected = logits[negative] - sampler.log_probability[negative] - math.log(500)
        corrected[torch.isin(negative, hit)] = -torch.inf
        estimates.append(float(expected_hits(logits[hit], torch.zeros(2, dtype=torch.long), corrected[None])))
    assert np.mean(estimates) == pytest.approx(exact, rel=0.02)
