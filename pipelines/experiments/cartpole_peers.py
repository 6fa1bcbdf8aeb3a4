"""The peers of the CartPole page: a bare DQN in the manner of CleanRL, and d3rlpy's in an environment of its own."""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.experiments.cartpole_presets import Preset
from recsys.errors import UserError
from recsys.mdp.transition_store import RingStore

D3RLPY_PYTHON = "D3RLPY_PYTHON"  # variable that names the interpreter: d3rlpy's pins clash with ours


class BareDQN:
    """DQN of Mnih et al. 2015 with nothing around it: Adam, squared loss, hard target copies, no double Q."""

    def __init__(self, store: RingStore, preset: Preset, chance: np.random.Generator, steps: int) -> None:
        self.store, self.preset, self.chance = store, preset, chance
        self.q, self.slow = dense(preset.hidden), dense(preset.hidden)
        self.slow.load_state_dict(self.q.state_dict())
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=preset.learning_rate)
        self.updates = max(1, (steps - preset.first_update) // preset.steps_per_update)
        self.done = 0

    def update(self) -> None:
        """Learn from one batch."""
        columns = self.store.columns
        rows = self.chance.integers(0, len(self.store), self.preset.batch_size)
        state, following, action, reward, gamma = (
            torch.from_numpy(columns[name][rows])
            for name in ("state", "next_state", "action", "n_step_return", "bootstrap")
        )
        with torch.no_grad():
            target = reward + gamma * self.slow(following).max(dim=1).values
        loss = nn.functional.mse_loss(self.q(state).gather(1, action.long()[:, None])[:, 0], target)
        self.optimizer.zero_grad()
        loss.backward()
        if self.preset.falling_rate:
            for group in self.optimizer.param_groups:
                group["lr"] = self.preset.learning_rate * max(0.0, 1.0 - self.done / self.updates)
        self.optimizer.step()
        self.done += 1
        if self.done % self.preset.target_interval == 0:
            with torch.no_grad():
                for slow, fast in zip(self.slow.parameters(), self.q.parameters(), strict=True):
                    slow.lerp_(fast, self.preset.target_tau)

    @torch.inference_mode()
    def act(self, state: np.ndarray) -> int:
        """Return the greedy action."""
        return int(self.q(torch.from_numpy(state)[None]).argmax())


def dense(hidden: tuple[int, ...]) -> nn.Sequential:
    """Return an MLP from 4 features to 2 Q-values."""
    widths = (4, *hidden)
    layers = [x for a, b in pairwise(widths) for x in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 2))


# what the other interpreter runs: it knows nothing of this project
_SCRIPT = """
import json, sys, time
import d3rlpy, gymnasium, numpy as np
p = json.loads(sys.argv[1]); d3rlpy.seed(p["seed"]); started = time.process_time()
env = gymnasium.make("CartPole-v1"); env.reset(seed=p["seed"])
dqn = d3rlpy.algos.DQNConfig(
    learning_rate=p["learning_rate"], batch_size=p["batch_size"], gamma=p["discount"],
    target_update_interval=p["target_interval"],
    encoder_factory=d3rlpy.models.VectorEncoderFactory(hidden_units=p["hidden"]),
).create(device="cpu:0")
buffer = d3rlpy.dataset.create_fifo_replay_buffer(limit=p["buffer"], env=env,
    transition_picker=d3rlpy.dataset.MultiStepTransitionPicker(n_steps=p["n_step"], gamma=p["discount"]))
explorer = d3rlpy.algos.LinearDecayEpsilonGreedy(
    start_epsilon=1.0, end_epsilon=p["final_epsilon"], duration=int(p["exploration"] * p["steps"]))
dqn.fit_online(env, buffer, explorer, n_steps=p["steps"], n_steps_per_epoch=p["steps"],
    update_interval=p["steps_per_update"], update_start_step=p["first_update"],
    logger_adapter=d3rlpy.logging.NoopAdapterFactory(), show_progress=False)
returns = []
for episode in range(p["episodes"]):
    state, _ = env.reset(seed=10_000 * p["seed"] + episode); total, done = 0.0, False
    while not done:
        state, reward, ended, cut, _ = env.step(int(dqn.predict(state[None])[0]))
        total += float(reward); done = ended or cut
    returns.append(total)
print(json.dumps({"contestant": "d3rlpy " + d3rlpy.__version__, "seed": p["seed"], "steps": p["steps"],
    "mean_return": float(np.mean(returns)), "least_return": float(np.min(returns)),
    "seconds": time.process_time() - started}))
"""


def d3rlpy_result(preset: Preset, steps: int, seed: int) -> str:
    """Return the JSON line of d3rlpy's online DQN at the same settings (its learning rate does not fall)."""
    interpreter = os.environ.get(D3RLPY_PYTHON, "")
    if not Path(interpreter).is_file():
        raise UserError(
            f"{D3RLPY_PYTHON} is {interpreter!r}, must name a Python interpreter that has d3rlpy and gymnasium; "
            "make one with: python -m venv … && …/pip install d3rlpy"
        )
    asked = {**vars(preset), "hidden": list(preset.hidden), "steps": steps, "seed": seed, "episodes": 100}
    done = subprocess.run(  # noqa: S603 - the interpreter is the caller's own
        [interpreter, "-c", _SCRIPT, json.dumps(asked)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise UserError(
            f"{interpreter} ended with {done.returncode} and said: {said}; run it by hand to see why"
        )
    return done.stdout.strip().splitlines()[-1]
