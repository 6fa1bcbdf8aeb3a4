"""Fitted Q evaluation of a ranker: what the log says that a policy brings, whatever its Q promises."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import pipelines.pretrain
from pipelines.fitted_q import Told, evaluation_settings, learn_values_of, values_at_the_start
from pipelines.steps import StepContext
from pipelines.teacher import teacher_for
from recsys.config import MemoryConfig, ModelConfig, PretrainConfig, RunConfig
from recsys.learning.factors import ItemStatistics
from recsys.learning.losses import NegativeSampler
from recsys.logs.prepared import PreparedLog, Role
from recsys.models.q_network import QNetwork
from tests import memory_log as told_log

ITEMS, DISCOUNT = 6, 0.5
GOOD, BAD = 1, 4  # one is worth a reward whenever it is taken, the other never


def config(folder: Path, **pretrain: object) -> RunConfig:
    raw = {
        "epochs": 2, "warmup_epochs": 1, "batch_size": 16, "negatives": 4, "new_task_share": 0.3,
        "discount": DISCOUNT, "learning_rate": 1e-2, "bootstrap_candidates": ITEMS,
    }  # fmt: skip
    return RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": folder}},
            "model": ModelConfig(item_features=8, hidden=8, dropout=0.0, id_dropout=0.0),
            "memory": MemoryConfig(features=0),
            "pretrain": PretrainConfig.model_validate({**raw, **pretrain}),
            "evaluate": {"shots": [0, 1]},
        }
    )


def random_log() -> PreparedLog:
    """Tell histories in which any item may be taken at any time, and one of them pays."""
    generator = np.random.default_rng(0)

    def told(role: Role) -> told_log.Told:
        events = [
            told_log.Event(int(item), 3600 * place, reward=float(item == GOOD))
            for place, item in enumerate(generator.integers(0, ITEMS, 12))
        ]
        return told_log.Told(events, role, len(events) if role == Role.TRAIN else None)

    roles = [Role.TRAIN] * 64 + [Role.COLD_VALIDATION] * 4
    return told_log.memory_log([told(role) for role in roles], items=ITEMS)


def network(log: PreparedLog, of: RunConfig) -> QNetwork:
    statistics = ItemStatistics(np.zeros((ITEMS, 4), np.float32), np.ones(ITEMS, np.float32))
    return teacher_for(log, of, statistics, statistics.popularity)


@pytest.mark.parametrize(("favourite", "worth"), [(GOOD, 1.0 / (1.0 - DISCOUNT)), (BAD, 0.0)])
def test_who_always_shows_one_item_is_worth_what_that_item_pays(
    favourite: int, worth: float, tmp_path: Path
) -> None:
    """r / (1 − γ) of the item that pays, nothing of another: of what it takes, not of the likeliest of the log."""
    log = random_log()
    settings = config(tmp_path, fqe_epochs=20, target_tau=0.3, learning_rate=3e-2, bootstrap_candidates=1)
    teacher, judge = network(log, settings), network(log, settings.model_copy(update={"seed": 99}))
    with torch.no_grad():
        teacher.tower.bias.weight.zero_()
        teacher.tower.bias.weight[favourite] = 1e4  # it promises a thousand times too much
    sampler = NegativeSampler.from_popularity(np.ones(ITEMS, np.float32))
    told = Told(log, np.arange(64), None, sampler, (0.0, 1.0 / (1.0 - DISCOUNT)))
    learn_values_of(teacher, judge, told, StepContext(settings, tmp_path))
    promised, fitted = values_at_the_start(teacher, judge, log, np.arange(64))
    assert promised > 500.0
    assert fitted == pytest.approx(worth, abs=0.15)


def test_it_changes_nothing_of_what_is_learnt_and_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: random_log())
    told = {}
    for name, epochs in (("alone", 0), ("evaluated", 2)):
        torch.manual_seed(0)  # as the runner does at the start of a step
        (tmp_path / name).mkdir()
        said: list[str] = []
        settings = config(tmp_path, fqe_epochs=epochs)
        pipelines.pretrain.run(StepContext(settings, tmp_path / name, {"prepare": tmp_path}, log=said.append))
        told[name] = json.loads((tmp_path / name / "health.json").read_text())
        assert any("fitted Q evaluation finds" in line for line in said) == (epochs > 0)
    for file in ("teacher.safetensors", "teacher.json"):
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "evaluated" / file).read_bytes()
    assert told["alone"]["over_promise"] is None
    found = told["evaluated"]
    assert found["over_promise"] == pytest.approx(found["promised"] / found["fitted_value"])
    same = told["alone"].keys() - {"promised", "fitted_value", "over_promise"}
    assert {name: found[name] for name in same} == {name: told["alone"][name] for name in same}


def test_values_are_learnt_one_step_at_a_time_without_a_pull_towards_the_log() -> None:
    settings = evaluation_settings(PretrainConfig(n_step=3, quantiles=8, fqe_epochs=4))
    assert (settings.target, settings.double, settings.n_step, settings.quantiles) == ("max", True, 1, 1)
    assert (settings.conservative_weight, settings.replay, settings.epochs) == (0.0, "uniform", 4)
    assert settings.warmup_epochs == PretrainConfig().warmup_epochs > 0
    ranked = PretrainConfig(target="max", supervised_weight=0.0, fqe_epochs=4)
    assert evaluation_settings(ranked).warmup_epochs == 0


def test_of_no_histories_nothing_is_known(tmp_path: Path) -> None:
    log = random_log()
    teacher = network(log, config(tmp_path))
    assert np.isnan(values_at_the_start(teacher, teacher, log, np.empty(0, np.int64))).all()


def test_an_evaluation_that_only_warms_up_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"fqe_epochs is 2, must be 0 or above warmup_epochs \(2\)"):
        PretrainConfig(fqe_epochs=2, warmup_epochs=2)
