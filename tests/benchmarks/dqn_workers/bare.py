"""A bare torch loop of the same arithmetic: arrays in memory, four matrix products, Adam; nothing around it.

python bare.py LOG dqn|double|cql
"""

import copy
import sys

import torch
from torch import nn
from worker import ACTIONS, BATCH, DISCOUNT, FEATURES, HIDDEN, LEARNING_RATE, TARGET_INTERVAL, read_log, serve

log = read_log(sys.argv[1])
kind = sys.argv[2]
state = torch.from_numpy(log["state"])
next_state = torch.roll(state, -1, 0)
action, reward = torch.from_numpy(log["action"]), torch.from_numpy(log["reward"])
bootstrap = torch.from_numpy(~log["end"]).float() * DISCOUNT
online = nn.Sequential(
    nn.Linear(FEATURES, HIDDEN[0]),
    nn.ReLU(),
    nn.Linear(HIDDEN[0], HIDDEN[1]),
    nn.ReLU(),
    nn.Linear(HIDDEN[1], ACTIONS),
)
target = copy.deepcopy(online).requires_grad_(False)
optimizer = torch.optim.Adam(online.parameters(), lr=LEARNING_RATE)
update = 0


def step() -> None:
    """Take one update."""
    global update
    row = torch.randint(0, len(state), (BATCH,))
    with torch.no_grad():
        q_next = target(next_state[row])
        if kind == "dqn":
            value = q_next.max(dim=1).values
        else:
            value = q_next.gather(1, online(next_state[row]).argmax(dim=1, keepdim=True))[:, 0]
        goal = reward[row] + bootstrap[row] * value
    q_value = online(state[row])
    chosen = q_value.gather(1, action[row][:, None])[:, 0]
    loss = nn.functional.smooth_l1_loss(chosen, goal)
    if kind == "cql":
        loss = loss + (torch.logsumexp(q_value, dim=1) - chosen).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    update += 1
    if update % TARGET_INTERVAL == 0:
        target.load_state_dict(online.state_dict())


serve(step)
