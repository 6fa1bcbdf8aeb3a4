"""The pipeline as a whole: its order, and what makes a step stale."""

import pytest

from pipelines.configuration import resolve_config
from pipelines.stages import NAMES, TRAINING, all_steps
from pipelines.steps import Step, plain


def test_steps_come_in_the_order_of_their_names_and_after_their_inputs() -> None:
    steps = all_steps()
    assert tuple(step.name for step in steps) == NAMES
    for number, step in enumerate(steps):
        assert set(step.inputs) <= set(NAMES[:number])


@pytest.mark.parametrize("step", all_steps(), ids=NAMES)
def test_another_number_of_threads_makes_what_is_trained_stale(step: Step) -> None:
    one, two = (plain(step.settings(resolve_config("smoke", [f"threads={n}"]))) for n in (1, 2))
    assert (one != two) == (step.name in TRAINING)
