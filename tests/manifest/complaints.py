"""How the tests look at what is wrong with a manifest."""

from budgetware.manifest import check_text

RATE = '{ type = "rate", value = 10, period = "minute" }'


def complaints(text: str) -> list[str]:
    """Every problem as it is shown, of a file called m.toml."""
    manifest, problems = check_text(text, "m.toml")
    assert (manifest is None) == bool(problems)
    return [problem.describe("m.toml") for problem in problems]


def complaint(text: str) -> str:
    """The only problem."""
    found = complaints(text)
    assert len(found) == 1, found
    return found[0]
