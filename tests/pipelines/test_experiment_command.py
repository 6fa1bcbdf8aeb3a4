"""What an experiment says to a user who gave it something wrong."""

import pytest

from pipelines.experiments.command import run_command
from recsys.errors import UserError


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("seeds is 0, must be at least 1; give one")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: seeds is 0, must be at least 1; give one\n"


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
