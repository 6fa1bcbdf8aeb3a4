"""The cold users that steps look at: the same ones in every step of a run."""

import numpy as np

from pipelines.steps import StepContext
from recsys.errors import UserError
from recsys.evaluation.cold_start import ColdCases, cold_cases
from recsys.logs.prepared import PreparedLog, Role
from recsys.randomness import numpy_generator


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


def _cases(context: StepContext, log: PreparedLog, role: Role, name: str) -> ColdCases:
    settings = context.config.evaluate
    chance = numpy_generator(context.seed, name)
    return cold_cases(log, role, max(settings.shots), settings.max_users, chance)
