"""The cold users that steps look at: the same ones in every step of a run."""

from pipelines.steps import StepContext
from recsys.evaluation.cold_start import ColdCases, cold_cases
from recsys.logs.prepared import PreparedLog, Role
from recsys.randomness import numpy_generator


def validation_cases(context: StepContext, log: PreparedLog) -> ColdCases:
    """Return the users that choose epochs and settings."""
    return _cases(context, log, Role.COLD_VALIDATION, "validation")


def test_cases(context: StepContext, log: PreparedLog) -> ColdCases:
    """Return the users that only `evaluate` may look at."""
    return _cases(context, log, Role.COLD_TEST, "test")


def _cases(context: StepContext, log: PreparedLog, role: Role, name: str) -> ColdCases:
    settings = context.config.evaluate
    chance = numpy_generator(context.seed, name)
    return cold_cases(log, role, max(settings.shots), settings.max_users, chance)
