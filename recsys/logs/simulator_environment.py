"""One simulated user as a gymnasium environment: an action is the index of the item that is shown.

The observation holds the tokens of the newest `max_events` shown items, padded behind (item −1), as a network's
StateBatch has them. `terminated`: the user is gone for good; `truncated`: the step limit is reached.
"""

from typing import Any, Final

import numpy as np

from recsys.errors import UserError
from recsys.logs.simulator import RESPONSES, World
from recsys.logs.simulator_policies import MOST_STEPS
from recsys.logs.simulator_sessions import BatchedSessions

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as missing:
    raise UserError(
        "the simulator's environment needs gymnasium; install the extra: pip install 'metaq[simulator]'"
    ) from missing

Observation = dict[str, Any]
_LONGEST_TAIL: Final = 37.0  # −log of the smallest 1 − u that a generator draws


class RecommendationEnv(gymnasium.Env[Observation, np.int64]):
    """A user who comes, is shown one item after the other, and leaves."""

    def __init__(self, world: World, max_events: int = 20, max_steps: int = MOST_STEPS) -> None:
        if max_events < 1 or max_steps < 1:
            raise UserError(
                f"max_events {max_events} and max_steps {max_steps} must be at least 1; raise them"
            )
        self._world = world
        self._max_events = max_events
        self._max_steps = max_steps
        self._sessions: BatchedSessions | None = None
        rewards = world.settings.response_reward
        shape, items = (max_events,), world.settings.items
        least, mean = world.settings.rest_hours
        longest_gap = np.log1p(max(world.settings.impression_gap_s[1] / 3600.0, least + _LONGEST_TAIL * mean))
        self.action_space = spaces.Discrete(items)
        self.observation_space = spaces.Dict(
            {
                "item": spaces.Box(-1, items - 1, shape, np.int64),
                "event_type": spaces.Box(0, len(RESPONSES) - 1, shape, np.int64),
                "reward": spaces.Box(min(*rewards, 0.0), max(*rewards, 0.0), shape, np.float32),
                "log_gap": spaces.Box(0.0, float(longest_gap), shape, np.float32),
                "new_session": spaces.Box(0.0, 1.0, shape, np.float32),
                "segment": spaces.Discrete(world.settings.segments),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the observation of a new user; the same seed gives the same user and the same chance."""
        super().reset(seed=seed)
        self._sessions = BatchedSessions(
            self._world, 1, self._max_events, self.np_random, max_steps=self._max_steps
        )
        return self._observation(self._sessions), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show one item."""
        if self._sessions is None or self._sessions.ended[0]:
            raise UserError("the user is gone or was never there; call reset() first")
        step = self._sessions.step(np.array([action]))
        return (
            self._observation(self._sessions),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {"response": RESPONSES[step.response[0]], "session_ended": bool(step.session_ended[0])},
        )

    def _observation(self, sessions: BatchedSessions) -> Observation:
        batch = sessions.state()
        length = int(batch.lengths[0])
        observation: Observation = {"segment": np.int64(sessions.users.segment[0])}
        for name in ("item", "event_type", "reward", "log_gap", "new_session"):
            tokens = getattr(batch, name)[0, :length].numpy()
            padded = np.full(self._max_events, -1 if name == "item" else 0, tokens.dtype)
            padded[:length] = tokens
            observation[name] = padded
        return observation
