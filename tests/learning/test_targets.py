"""Target rules on tables worked by hand, schedules of the target network, settings that contradict themselves."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from recsys.config import PretrainConfig
from recsys.errors import UserError
from recsys.learning.device import training_device
from recsys.learning.target_network import TargetSchedule
from recsys.learning.targets import Rule, expected_value, next_action, supported, td_target

Q_ONLINE = torch.tensor([[9.0, 5.0, 1.0]])
Q_TARGET = torch.tensor([[10.0, 20.0, 30.0]])
LOGIT = torch.tensor([[-3.0, -1.0, 0.0]])
LOGGED = torch.tensor([2])


@pytest.mark.parametrize(
    ("rule", "threshold", "value", "best"),
    [
        ("max", 0.0, 10.0, 9.0),  # the online best, valued by the target
        ("supported_max", 0.0, 10.0, 9.0),  # everything is supported
        (
            "supported_max",
            0.1,
            20.0,
            5.0,
        ),  # e^-3 of the likeliest is too rare; the best supported is the second
        ("supported_max", 0.9, 30.0, 1.0),  # only the likeliest
        ("sarsa", 0.0, 30.0, 9.0),  # what was logged, whatever is best
    ],
)
def test_each_rule_names_its_action(rule: Rule, threshold: float, value: float, best: float) -> None:
    allowed = supported(LOGIT, threshold) if threshold else None
    place, max_q = next_action(rule, Q_ONLINE, allowed, LOGGED)
    assert [float(Q_TARGET[0, place]), float(max_q)] == [value, best]


def test_the_expected_value_is_over_permitted_actions() -> None:
    logit = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    assert float(expected_value(Q_TARGET, logit, None)) == pytest.approx(5 + 5 + 7.5)
    without_the_first = torch.tensor([[False, True, True]])
    assert float(expected_value(Q_TARGET, logit, without_the_first)) == pytest.approx(25.0)


def test_a_target_is_the_return_and_the_discounted_value_within_its_bounds() -> None:
    total, bootstrap = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.5, 0.0, 0.25])
    value = torch.tensor([4.0, 4.0, 40.0])
    assert td_target(total, bootstrap, value, None).tolist() == [3.0, 1.0, 11.0]
    assert td_target(total, bootstrap, value, (0.0, 2.0)).tolist() == [2.0, 1.0, 2.0]
    quantiles = torch.tensor([[0.0, 4.0]]).expand(3, 2)
    assert td_target(total, bootstrap, quantiles, None).tolist() == [[1.0, 3.0], [1.0, 1.0], [1.0, 2.0]]


def moves(schedule: TargetSchedule, updates: int) -> list[int]:
    return [update for update in range(1, updates + 1) if schedule.rate_after(update) > 0]


def test_a_hard_target_moves_at_its_interval_and_nowhere_else() -> None:
    schedule = TargetSchedule.of(PretrainConfig(target_tau=1.0, target_interval=7))
    assert moves(schedule, 30) == [7, 14, 21, 28]
    assert schedule.rate_after(14) == 1.0
    for interval in (3, 10, 49, 1000):  # no multiple is lost to rounding
        schedule = TargetSchedule(1.0, interval)
        assert moves(schedule, 5000) == list(range(interval, 5001, interval))


def test_a_soft_target_moves_at_every_update_by_an_annealed_rate() -> None:
    schedule = TargetSchedule.of(
        PretrainConfig(target_tau=0.1, final_target_tau=0.02, target_anneal_updates=4)
    )
    found = [schedule.rate_after(update) for update in range(1, 7)]
    assert found == pytest.approx([0.08, 0.06, 0.04, 0.02, 0.02, 0.02])


def test_an_interval_grows_to_its_final_length() -> None:
    schedule = TargetSchedule(1.0, 10, final_interval=100, anneal=1000)
    gaps = [b - a for a, b in pairwise(moves(schedule, 3000))]
    assert gaps[0] <= 12
    assert all(later >= earlier - 1 for earlier, later in pairwise(gaps))
    assert gaps[-3:] == [100, 100, 100]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"supervised_weight": 0}, "supervised_weight is 0, must be above 0 for target supported_max"),
        ({"target": "sarsa", "return_weight": 0}, "return_weight is 0, must be above 0 for target sarsa"),
        (
            {"target": "sarsa", "truncated_sarsa": "expected", "supervised_weight": 0},
            "supervised_weight is 0, must be above 0 for target sarsa",
        ),
        ({"final_target_tau": 0.1}, "target_anneal_updates is 0, must be above 0 exactly where"),
        ({"target_anneal_updates": 5}, "target_anneal_updates is 5, must be above 0 exactly where"),
        (
            {"target": "max", "supervised_weight": 0, "conservative_weight": 0},
            "warmup_epochs is 2, must be 0 where",
        ),
    ],
)
def test_settings_that_leave_something_unlearnt_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PretrainConfig.model_validate(changes)


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("cpu").type == training_device("auto").type == "cpu"
    with pytest.raises(UserError, match=r"device is 'cuda', must be 'cpu' .*; set device to"):
        training_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [training_device(name).type for name in ("cpu", "cuda", "auto")] == ["cpu", "cuda", "cuda"]
