"""`[budgets.NAME]`: templates, judged as `task_budget` judges."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from budgetware import task_budget
from budgetware.kernel.budget import Limit
from budgetware.manifest import Template, parse_manifest
from budgetware.policies import Reject
from tests.manifest.complaints import complaint, complaints


def template(*lines: str) -> Template:
    return parse_manifest("\n".join(["[budgets.b]", *lines])).budgets["b"]


def refusal(*lines: str) -> str:
    said = complaint("\n".join(["[budgets.b]", *lines]))
    assert ": budgets.b" in said
    return said.split(": budgets.b", 1)[1]


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("tokens = 5", {"tokens": 5}),
        ("tokens = { limit = 5 }", {"tokens": Limit(5)}),
        ("tokens = { limit = 5, warn = 4 }", {"tokens": Limit(5, 4)}),
        ("tokens.limit = 5", {"tokens": Limit(5)}),
        ('usd = { limit = "0.25", warn = 0.2 }', {"usd": Limit(Decimal("0.25"), Decimal("0.2"))}),
        ('seconds = { limit = "2m", warn = 90 }', {"seconds": Limit(120.0, 90.0)}),
        ("millis = 500", {"millis": 500}),
        ('memory = "64MiB"', {"memory": 2**26}),
        ("my_units = { limit = 5, warn = 4 }", {"my_units": Limit(5, 4)}),
        ("custom3 = 7", {"custom3": 7}),
    ],
)
def test_limits_are_read(line: str, limits: Mapping[str, Any]) -> None:
    assert template(line).limits == limits


def test_options_are_read() -> None:
    options = template(
        "tokens = 100",
        'policy = { type = "reject", patience = 3 }',
        "warn_at = 0.8",
        "carve = false",
        "keep = { tokens = 5 }",
        'unpriced = "allow"',
    ).options
    assert options == {
        "policy": Reject(3),
        "warn_at": 0.8,
        "carve": False,
        "keep": {"tokens": 5},
        "unpriced": "allow",
    }


def test_task_budget_takes_a_template_as_it_is() -> None:
    given = template(
        "tokens = { limit = 100, warn = 90 }",
        'usd = "0.25"',
        "seconds = 5",
        "policy = 'terminate'",
        "warn_at = 0.5",
        "keep = { tokens = 5, usd = '0.05' }",
    )
    arguments: dict[str, Any] = {**given.options, **given.limits}
    with task_budget("b", **arguments) as budget:
        assert budget.snapshot()["tokens"].warn == 90
        assert budget.snapshot()["usd"].limit == Decimal("0.25")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), ": has no limit; name at least one, such as tokens = 50_000"),
        (("policy = 'reject'",), ": has no limit; name at least one"),
        (("token = 5",), ".token: unknown dimension 'token'; did you mean 'tokens'?"),
        (("Tokens = 5",), ".Tokens: 'Tokens' is no name of a dimension; did you mean 'tokens'?"),
        (("polcy = 'reject'",), ".polcy: unknown key of a budget; did you mean 'policy'? Else"),
        (("second = 5",), ".second: unknown key of a budget; did you mean 'seconds'?"),
        (("limit = 5",), ".limit: unknown key of a budget; to count it, list it in"),
        (("tokens = { warn = 5 }",), ".tokens.limit: is missing; write tokens = { limit = 50_000"),
        (("usd = {}",), '.usd.limit: is missing; write usd = { limit = "0.25" }'),
        (
            ("tokens = { limit = 5, wran = 4 }",),
            ".tokens.wran: unknown key of a limit; did you mean 'warn'?",
        ),
        (("tokens = { limit = 5, warn = 0 }",), ".tokens.warn: 0 is not above 0; give"),
        (("tokens = { limit = 5, warn = 5 }",), ".tokens: warn 5 must be below limit 5"),
        (("my_own = { limit = 5, warn = 6 }",), ".my_own: warn 6 must be below limit 5"),
        (("seconds = { limit = 5, warn = '6s' }",), ".seconds: warn 6.0 must be below"),
        (("seconds = 5", "millis = 5"), ".millis: is the same limit as seconds; give one of them"),
        (("tokens = 5", "carve = 1"), ".carve: 1 is not a boolean; give"),
        (("tokens = 5", "unpriced = 'x'"), ".unpriced: 'x' is not possible here; give 'error' or"),
        (("tokens = 5", "policy = 'x'"), ".policy: 'x' is no policy; give"),
        (("tokens = 5", "warn_at = 1"), ".warn_at: 1 is no share; give a number between 0 and 1"),
        (("tokens = 5", "warn_at = 0.0"), ".warn_at: 0.0 is no share; give"),
        (("tokens = 5", "warn_at = nan"), ".warn_at: nan is no share; give"),
        (("tokens = 5", "warn_at = 1e-300000"), ".warn_at: 1e-300000 is no share; give"),
        (("tokens = 5", "warn_at = '0.5'"), ".warn_at: '0.5' is no share; give"),
        (("tokens = 5", "keep = 5"), ".keep: 5 is no table; write keep = { tokens = 2_000 }"),
        (("tokens = 5", "keep = { calls = 1 }"), ".keep.calls: has no limit here; what is kept"),
        (("tokens = 5", "keep = { tokens = 5 }"), ".tokens: keep: tokens=5 must be below the"),
        (("tokens = 5", "keep = { tokens = 0 }"), ".keep.tokens: 0 is not above 0; give"),
        (("memory = 5", "keep = { memory = 1 }"), ".memory: keep: memory is a level, given back"),
        (("seconds = 5", "keep = { seconds = 1 }"), ".keep.seconds: is wall clock and cannot be"),
    ],
)
def test_what_cannot_be_says_why(lines: tuple[str, ...], said: str) -> None:
    assert refusal(*lines).startswith(said)


def test_name_that_looks_like_a_slip_is_a_dimension_where_it_is_listed() -> None:
    manifest = parse_manifest("dimensions = ['limits']\n[budgets.b]\nlimits = 5\n")
    assert manifest.budgets["b"].limits == {"limits": 5}


def test_name_of_a_template_is_judged() -> None:
    assert complaints("[budgets.'a/b']\ntokens = 5") == [
        "m.toml:1: budgets.'a/b': 'a/b' is no name; use 1 to 128 of A-Z a-z 0-9 . _ : @ -"
    ]
