"""The README's python blocks run as they stand, and print what their `#>` comments say."""

from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = list(find_examples(README))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_readme_block_prints_what_it_shows(
    example: CodeExample,
    eval_example: EvalExample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUDGETWARE_MANIFEST", raising=False)
    eval_example.run_print_check(example)


def test_readme_shows_python() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("command", ["uv run budgetware demo", "uv run pytest"])
def test_readme_names_the_command(command: str) -> None:
    assert command in README.read_text(encoding="utf-8").splitlines()


def test_ci_runs_the_readme_test_command_last() -> None:
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "uv run pytest"
