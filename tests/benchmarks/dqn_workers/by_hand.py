"""The least that PyTorch needs for the arithmetic: gradients written out, one buffer of parameters, no autograd.

States and next states share their products where the online network reads both, Q of the target network is kept as
ours keeps it, and only rows of logged actions get a gradient where that is all there is. Nobody would maintain an
update like this one; it says how far a processor lets any of them go. Before it serves, it holds its gradients against
autograd's and stops where they differ.

python by_hand.py LOG dqn|double|cql
"""

import copy
import sys

import numpy as np
import torch
from torch import nn
from worker import ACTIONS, BATCH, DISCOUNT, FEATURES, HIDDEN, LEARNING_RATE, TARGET_INTERVAL, read_log, serve

torch.set_grad_enabled(False)
log = read_log(sys.argv[1])
kind = sys.argv[2]
joined = kind != "dqn"  # the online network reads next states too
state = torch.from_numpy(log["state"])
next_state = torch.roll(state, -1, 0)
action, reward = torch.from_numpy(log["action"]), torch.from_numpy(log["reward"])
bootstrap = torch.from_numpy(~log["end"]).float() * DISCOUNT

reference = nn.Sequential(
    nn.Linear(FEATURES, HIDDEN[0]),
    nn.ReLU(),
    nn.Linear(HIDDEN[0], HIDDEN[1]),
    nn.ReLU(),
    nn.Linear(HIDDEN[1], ACTIONS),
)
shapes = [parameter.shape for parameter in reference.parameters()]
size = sum(shape.numel() for shape in shapes)


def parts(buffer: torch.Tensor) -> list[torch.Tensor]:
    """Return one buffer as weights and biases in turn."""
    split = torch.split(buffer, [shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(split, shapes, strict=True)]


online = nn.utils.parameters_to_vector(reference.parameters())
gradient, first, second = torch.zeros(size), torch.zeros(size), torch.zeros(size)
weight1, bias1, weight2, bias2, weight3, bias3 = parts(online)
slope1, fall1, slope2, fall2, slope3, fall3 = parts(gradient)
target = online.clone()
taken = torch.zeros(())
rows = 2 * BATCH if joined else BATCH
seen = torch.empty(rows, FEATURES)
hidden1, hidden2 = torch.empty(rows, HIDDEN[0]), torch.empty(rows, HIDDEN[1])
update = 0


def asked_of_target(place: torch.Tensor) -> torch.Tensor:
    """Return Q of next states by the target network, (place, action)."""
    w1, b1, w2, b2, w3, b3 = parts(target)
    hidden = torch.addmm(b1, next_state[place], w1.T).clamp_min_(0)
    return torch.addmm(b3, torch.addmm(b2, hidden, w2.T).clamp_min_(0), w3.T)


remembered = torch.cat([asked_of_target(place) for place in torch.arange(len(state)).split(BATCH)])


def learn(row: torch.Tensor) -> None:
    """Put the gradient of a batch, (batch,), into its buffer."""
    torch.index_select(state, 0, row, out=seen[:BATCH])
    if joined:
        torch.index_select(next_state, 0, row, out=seen[BATCH:])
    torch.addmm(bias1, seen, weight1.T, out=hidden1).clamp_min_(0)
    torch.addmm(bias2, hidden1, weight2.T, out=hidden2).clamp_min_(0)
    q_next = remembered.index_select(0, row)
    if joined:
        best = torch.addmm(bias3, hidden2[BATCH:], weight3.T).argmax(1, keepdim=True)
        value = q_next.gather(1, best)[:, 0]
    else:
        value = q_next.amax(1)
    goal = reward[row] + bootstrap[row] * value
    here, below, chosen = hidden2[:BATCH], hidden1[:BATCH], action[row]
    gradient.zero_()
    if kind == "cql":
        q_all = torch.addmm(bias3, here, weight3.T)
        back = q_all.softmax(1)
        step_down = (q_all.gather(1, chosen[:, None]) - goal[:, None]).clamp_(-1, 1) - 1
        back.scatter_add_(1, chosen[:, None], step_down).div_(BATCH)
        torch.mm(back.T, here, out=slope3)
        torch.sum(back, 0, out=fall3)
        back2 = back @ weight3
    else:
        own = weight3.index_select(0, chosen)
        gap = torch.linalg.vecdot(here, own).add_(bias3[chosen]).sub_(goal).clamp_(-1, 1).div_(BATCH)
        slope3.index_add_(0, chosen, here * gap[:, None])
        fall3.index_add_(0, chosen, gap)
        back2 = own.mul_(gap[:, None])
    back2 = torch.ops.aten.threshold_backward(back2, here, 0)
    torch.mm(back2.T, below, out=slope2)
    torch.sum(back2, 0, out=fall2)
    back1 = torch.ops.aten.threshold_backward(back2 @ weight2, below, 0)
    torch.mm(back1.T, seen[:BATCH], out=slope1)
    torch.sum(back1, 0, out=fall1)


def step() -> None:
    """Take one update."""
    global update
    learn(torch.from_numpy(chance.integers(0, len(state), BATCH)))
    taken.add_(1)
    torch._fused_adamw_(
        [online],
        [gradient],
        [first],
        [second],
        [],
        [taken],
        lr=LEARNING_RATE,
        beta1=0.9,
        beta2=0.999,
        weight_decay=0.0,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )
    update += 1
    if update % TARGET_INTERVAL == 0:
        target.copy_(online)
    every = round(TARGET_INTERVAL * BATCH / len(state))
    if update % every == 0:  # what a copy costs is spread over the updates that it serves
        place = torch.arange(update // every * BATCH, (update // every + 1) * BATCH) % len(state)
        remembered[place] = asked_of_target(place)


def differs_from_autograd() -> float:
    """Return the largest gap between a batch's gradient and autograd's, relative to the largest entry."""
    row = torch.arange(BATCH)
    learn(row)
    with torch.enable_grad():
        dense = copy.deepcopy(reference)
        q_value = dense(state[row])
        with torch.no_grad():
            q_next = reference(next_state[row])
            value = q_next.amax(1)  # both networks are one at the start, so that both kinds choose alike
        own = q_value.gather(1, action[row][:, None])[:, 0]
        loss = nn.functional.smooth_l1_loss(own, reward[row] + bootstrap[row] * value)
        if kind == "cql":
            loss = loss + (torch.logsumexp(q_value, dim=1) - own).mean()
        loss.backward()
    wanted = torch.cat([p.grad.flatten() for p in dense.parameters() if p.grad is not None])
    return float((gradient - wanted).abs().max() / wanted.abs().max())


chance = np.random.default_rng(0)
if not (gap := differs_from_autograd()) < 1e-4:
    raise SystemExit(f"the gradient is {gap:.1e} of its largest entry off autograd's, must be at most 1e-4")
serve(step)
