"""Both type checkers see the types the cases assert, and exactly the errors they expect.

An error a case expects is written as an ignore with its code; both checkers report one that is not
needed, so an error that stops being found fails here too.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name("cases")


CHECKERS = {"mypy": ["mypy"], "basedpyright": ["basedpyright", "--pythonpath", sys.executable]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checker_accepts_the_cases(checker: str) -> None:
    command = [sys.executable, "-m", *CHECKERS[checker], str(CASES)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_cases() -> None:
    assert len(list(CASES.glob("*.py"))) >= 3
