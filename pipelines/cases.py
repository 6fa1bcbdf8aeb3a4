"""The cold users that steps look at: the same ones in every step of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.steps import StepContext
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.cold_start import ColdCases, cold_cases
from recsys.logs.prepared import PreparedLog, Role, open_prepared
from recsys.randomness import numpy_generator

_ENOUGH: Final = 30  # cold test users whose mean says something; fewer are taken where there are no more


def validation_cases(context: StepContext, log: PreparedLog) -> ColdCases:
    """Return the users that choose epochs and settings; raises UserError if the log rewards nothing at all."""
    cases = _cases(context, log, Role.COLD_VALIDATION, "validation")
    if len(cases) == 0:
        if (best := float(np.max(log.reward, initial=-np.inf))) <= 0:
            raise UserError(
                f"the largest reward in the log is {best:g}, must be above 0 for what is to be recommended; raise what "
                "users want under [prepare.reward.base]"
            )
        shots = max(context.config.evaluate.shots)
        context.log(
            f"no validation user with more than {shots} events and something new after: the last epoch counts"
        )
    return cases


def test_cases(context: StepContext, log: PreparedLog) -> ColdCases:
    """Return the users that only `evaluate` may look at."""
    return _cases(context, log, Role.COLD_TEST, "test")


def require_test_cases(config: RunConfig, prepared: Path) -> None:
    """Raise UserError, with the shots that would do, if `evaluate` will find nobody in a prepared log."""
    log, shots = open_prepared(prepared), config.evaluate.shots
    if _count(log, max(shots), 1):
        return
    cold = log.with_role(Role.COLD_TEST)
    longest = int(np.max(np.diff(log.history_offsets)[cold], initial=0))
    found = (
        f"0 cold test users with more than {max(shots)} events and something new after them, at least 1 is needed; "
        f"there are {len(cold):,} cold test users, and the longest history of one has {longest:,} events; "
    )
    shorter = _shorter(log, shots)
    if shorter is not None:
        raise UserError(f"{found}give --set 'evaluate.shots={list(shorter)}'")
    raise UserError(
        f"{found}no evaluate.shots would do: a cold test user has to take something that is rewarded and new to them "
        "after a first event; move the cut (prepare.split.test_from or test_share), hold users out by hash "
        "(--set prepare.split.kind=users) or bring a larger log"
    )


def _shorter(log: PreparedLog, shots: Sequence[int]) -> tuple[int, ...] | None:
    """Return the longest beginning of the shots that enough users have, else that most have; none if nobody does."""
    choices = [tuple(shots[:end]) for end in range(len(shots) - 1, 0, -1) if shots[end - 1] > 1] + [(0, 1)]
    counts = [_count(log, max(choice), _ENOUGH) for choice in choices]
    return None if max(counts) == 0 else choices[int(np.argmax(counts))]


def _count(log: PreparedLog, shots: int, most: int) -> int:
    """Return how many cold test users there are, counted up to `most`."""
    return len(cold_cases(log, Role.COLD_TEST, shots, most, np.random.default_rng(0)))


def _cases(context: StepContext, log: PreparedLog, role: Role, name: str) -> ColdCases:
    settings = context.config.evaluate
    chance = numpy_generator(context.seed, name)
    return cold_cases(log, role, max(settings.shots), settings.max_users, chance)
