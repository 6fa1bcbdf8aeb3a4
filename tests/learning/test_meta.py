"""The outer loop and distillation on batches whose losses are known or must stay finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.adaptation import AdaptationHead, AdaptationPrior
from recsys.config import DistillConfig, MetatrainConfig
from recsys.gradient_adaptation import GradientLoop, HeadKind
from recsys.learning.distillation import Distiller
from recsys.learning.losses import NegativeSampler
from recsys.learning.meta import MetaLearner
from recsys.learning.target_network import frozen_copy
from recsys.learning.teachers import Learner, Teacher
from recsys.mdp.state import encode_states
from recsys.mdp.tasks import TaskBatch, task_batches, task_starts
from recsys.mdp.windows import cut_windows, read_windows
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.student import StudentNetwork
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import Event, history, memory_log, random_told, taken

ITEMS, FEATURES = 40, 5


def learner(gain: float = 2.0, **changes: object) -> MetaLearner:
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(ITEMS), temperature=0.1)
    head = AdaptationHead(ITEMS, 4, AdaptationPrior(FEATURES, len(EVENT_TYPES)))
    with torch.no_grad():
        head.factors.normal_()
        head.prior.gain.fill_(gain)
    sampler = NegativeSampler.from_popularity(np.ones(ITEMS, np.float32))
    settings = MetatrainConfig(negatives=30, temperature=0.1).model_copy(update=changes)
    made = MetaLearner(
        network, head, frozen_copy(network), sampler, settings, 0.5, torch.Generator().manual_seed(0)
    )
    made.refresh_means()
    return made


def some_tasks() -> tuple[TaskBatch, list[TaskBatch]]:
    generator = np.random.default_rng(0)
    log = memory_log([random_told(generator, 30, ITEMS) for _ in range(6)], items=ITEMS)
    drawn = list(task_batches(log, task_starts(log, np.arange(6), 6), 64, 10, 50, generator))
    return drawn[0], drawn


OLD = encode_states([history(*map(Event, (3, 5, 7))), history(*map(Event, (2, 2)))], 20)


def test_both_halves_reach_every_part_that_should_learn() -> None:
    made = learner()
    losses = made.losses(some_tasks()[0], OLD)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert losses.shift > 1e-3
    prior = made.head.prior
    for parameter in (
        prior.mean,
        prior.gain,
        prior.log_noise,
        prior.growth,
        prior.mix_logit,
        made.head.log_precision,
    ):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_what_a_user_takes_at_any_other_time_is_no_negative_of_either_half() -> None:
    """Users who take everything leave nothing to tell their query from: both losses are those of no rival at all."""
    made = learner(old_rivals="spared")
    with torch.no_grad():
        made.head.prior.mean.zero_()  # prior mode is the pretrained Q, so that old values are kept
    chance = np.random.default_rng(1)
    log = memory_log([taken(*chance.permutation(ITEMS).tolist()) for _ in range(4)], items=ITEMS)
    tasks = next(task_batches(log, task_starts(log, np.arange(4), 6), 64, 5, 5, chance))
    old = read_windows(log, cut_windows(log, np.arange(4), 10, 2, chance), chance, whole_histories=True)
    losses = made.losses(tasks, old)
    assert losses.new_tasks == pytest.approx(0.0, abs=1e-6)
    assert losses.old_tasks == pytest.approx(0.0, abs=1e-6)
    apart = made.losses(replace(tasks, support=replace(tasks.support, takes=old.takes[:0])), OLD)
    assert apart.new_tasks > 0.01
    assert apart.old_tasks > 0.01
    made.config = made.config.model_copy(
        update={"old_rivals": "all"}
    )  # what comes later is a rival of what is next
    assert made.losses(tasks, old).old_tasks > 0.01


class Everything(NegativeSampler):
    """Draws the catalogue, each item once: a sampled softmax is then the softmax."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(ITEMS)


def test_old_users_order_is_kept_by_the_divergence_from_what_the_teacher_said() -> None:
    """Over a catalogue drawn whole the term is KL(softmax(Q before / T) ‖ softmax(Q now / T)), mean over old states."""
    made, kept = learner(distill_weight=0.0, old_states=100), learner(distill_weight=3.0, old_states=100)
    uniform = NegativeSampler.from_popularity(np.ones(ITEMS, np.float32))
    for one in (made, kept):
        one.sampler = Everything(uniform.cumulative, uniform.log_probability)
        one.network.eval()
        one.pretrained.eval()
    at_start = (float(one._old_tasks(OLD).detach()) for one in (made, kept))
    assert next(at_start) == pytest.approx(next(at_start), abs=1e-6)  # nothing has moved yet
    for one in (made, kept):
        with torch.no_grad():
            for parameter in one.network.parameters():
                parameter.add_(0.3 * torch.sin(torch.arange(parameter.numel()).reshape(parameter.shape)))

    def policy(network: QNetwork) -> np.ndarray:
        states, side = network.state_vectors(OLD), network.item_side(torch.arange(ITEMS))
        before_new_items = states.advantage[[0, 0, 0, 1], [0, 1, 2, 0]]  # 3, 5, 7 and the first 2
        logit = (before_new_items @ side.vectors.T + side.bias).detach().double().numpy() / 0.1
        weight = np.exp(logit - logit.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    before, now = policy(kept.pretrained), policy(kept.network)
    divergence = (before * np.log(before / now)).sum(axis=1).mean()
    assert divergence > 0.01
    added = (kept._old_tasks(OLD) - made._old_tasks(OLD)).detach()
    assert float(added) == pytest.approx(3.0 * divergence, rel=1e-3)


@pytest.mark.parametrize("kind", ["head", "context", "full"])
def test_an_inner_loop_by_gradient_learns_where_its_steps_begin(kind: HeadKind) -> None:
    made = learner()
    loop = GradientLoop(made.head.prior, kind, steps=2)
    made.loop = loop
    losses = made.losses(some_tasks()[0], OLD)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert losses.shift > 0
    learnt = loop.write.weight if kind == "context" else loop.start_at["linear"]
    rate = next(iter(loop.log_rate.values()))
    for parameter in (learnt, rate, made.head.prior.gain):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_evidence_worth_nothing_moves_no_q() -> None:
    assert learner(gain=0.0).losses(some_tasks()[0], OLD).shift == 0.0


def test_an_old_batch_without_anything_rewarded_is_finite() -> None:
    made = learner()
    nothing = encode_states([history(Event(1, 0, 0, -1.0, 0))], 20)
    losses = made.losses(some_tasks()[0], nothing)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert losses.old_tasks == 0.0


def test_tasks_that_ask_nothing_give_no_batch() -> None:
    log = memory_log([taken(*([1] * 8))])
    assert (
        list(task_batches(log, task_starts(log, np.array([0]), 6), 4, 3, 50, np.random.default_rng(0))) == []
    )


def distiller(same: bool) -> Distiller:
    torch.manual_seed(0)
    teacher = QNetwork(tiny_shape(ITEMS), temperature=0.1).eval().requires_grad_(False)
    vectors, bias = teacher.tower.table()
    table = ItemTable.of(vectors, bias * 0.1, torch.randn(ITEMS, FEATURES))
    student = StudentNetwork(teacher.shape).eval()
    student.vectors = table.vectors
    if same:
        student.states.load_state_dict(teacher.states.state_dict())
    prior = AdaptationPrior(FEATURES, len(EVENT_TYPES))
    settings = DistillConfig(teacher_top=10, index_top=5, random_candidates=20)
    chance = torch.Generator().manual_seed(0)
    taught = Teacher.of([Learner(teacher, prior, table)])
    return Distiller(taught, Learner(student, frozen_copy(prior), table), settings, 0.5, chance)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_but_the_next_item() -> None:
    losses = distiller(same=True).losses(OLD, torch.tensor([2, 1]))
    assert [losses.prior_kl, losses.adapted_kl, losses.advantage] == pytest.approx([0.0] * 3, abs=1e-6)
    assert losses.next_item > 0
    other = distiller(same=False).losses(OLD, torch.tensor([2, 1]))
    assert min(other.prior_kl, other.adapted_kl, other.advantage) > 1e-4


def test_a_batch_with_nothing_to_match_is_finite() -> None:
    made = distiller(same=False)
    losses = made.losses(encode_states([history(Event(1, 0, 0, -1.0, 0))], 20), torch.tensor([1]))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in made.student.network.parameters())


def test_replayed_windows_feed_the_outer_loop() -> None:
    generator = np.random.default_rng(1)
    told = [replace(random_told(generator, 20, ITEMS), train_end=None) for _ in range(5)]
    log = memory_log(told, items=ITEMS)
    windows = cut_windows(log, np.arange(5), 10, 2, generator)
    losses = learner().losses(some_tasks()[0], read_windows(log, windows, generator))
    assert losses.old_tasks > 0


def test_evidence_starts_as_the_mean_reward_of_its_event_type_and_unseen_types_keep_what_they_stand_for() -> (
    None
):
    made = learner(gain=1.0)
    made.network.eval()
    tasks = some_tasks()[1]
    stand_for = torch.tensor([-1.0, 0.2, 0.0, 0.7])
    made.start_evidence(tasks, stand_for, 1.0)
    prior = made.head.prior
    evidence: dict[int, list[float]] = {}
    reward: dict[int, list[float]] = {}
    for batch in tasks:
        support, _ = made._support(batch)
        given = prior.evidence(support)[support.present]
        for kind, value, paid in zip(
            support.event_type[support.present].tolist(),
            given.tolist(),
            batch.support.reward[:, : support.present.shape[1]][support.present].tolist(),
            strict=True,
        ):
            evidence.setdefault(kind, []).append(value)
            reward.setdefault(kind, []).append(paid)
    assert evidence
    for kind in evidence:
        assert np.mean(evidence[kind]) == pytest.approx(np.mean(reward[kind]), abs=1e-4)
    for kind in set(range(len(EVENT_TYPES))) - set(evidence):
        assert float(prior.gain[kind].detach()) == 0.0
        assert float(prior.offset[kind].detach()) == pytest.approx(float(stand_for[kind]))


def test_a_click_never_lowers_the_items_that_are_like_it() -> None:
    made = learner(gain=1.0)
    made.start_evidence([], torch.tensor([-1.0, 0.2, 0.0, 1.0]), 0.5)
    click = EVENT_TYPES.index("click")
    with torch.no_grad():
        batch = encode_states([history(Event(3, event_type=click, reward=0.2))], 20)
        task = TaskBatch(batch, torch.tensor([1]), torch.tensor([0]), torch.tensor([1]))
        support, _ = made._support(task)
        features = made.head.item_features(torch.arange(ITEMS))
        fast = made.head.prior.adapt(features[support.item], support)
        moved = (fast.mean - made.head.prior.mean) @ features.T
    alike = features @ features[3]
    assert float(moved[0, 3]) > 0
    assert torch.all(torch.sign(moved[0]) == torch.sign(alike))
