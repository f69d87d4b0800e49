"""The README's blocks run as they stand and print what they say, and its links lead somewhere."""

import re
from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

from budgetware.manifest import check_manifest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = list(find_examples(README))
LINKS = sorted(set(re.findall(r"\]\(([^):#]+)\)", README.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_readme_block_prints_what_it_shows(
    example: CodeExample,
    eval_example: EvalExample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUDGETWARE_MANIFEST", raising=False)
    eval_example.set_config(line_length=100)
    eval_example.run_print_check(example)


def test_readme_shows_a_budget_and_what_is_shared() -> None:
    assert len(EXAMPLES) == 2


def test_readme_is_short() -> None:
    assert 75 <= len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("link", LINKS)
def test_readme_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_manifest_to_start_from_is_right() -> None:
    found, problems = check_manifest(ROOT / "examples/budgetware.toml")
    assert (found is not None, problems) == (True, ())


@pytest.mark.parametrize("command", ["uv run budgetware demo", "uv run pytest"])
def test_readme_names_the_command(command: str) -> None:
    assert command in README.read_text(encoding="utf-8").splitlines()


def test_ci_runs_the_readme_test_command_last() -> None:
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "uv run pytest"
