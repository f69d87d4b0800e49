"""`[principals.NAME]`: parents, exemptions, quotas."""

from decimal import Decimal

import pytest

from budgetware.manifest import parse_manifest
from budgetware.policies import Reject, Throttle
from budgetware.quotas import Capacity, PrincipalDefinition, Rate, Resource
from tests.manifest.complaints import complaint, complaints


def principals(text: str) -> tuple[PrincipalDefinition, ...]:
    return parse_manifest(text).principals


def test_parents_come_first() -> None:
    found = principals("[principals.alice]\nparent = 'team'\n[principals.team]\n")
    assert found == (PrincipalDefinition("team"), PrincipalDefinition("alice", "team"))


@pytest.mark.parametrize(
    ("line", "exempt"), [("", None), ("exempt = true", True), ("exempt = false", False)]
)
def test_exempt_is_yes_no_or_as_the_parent(line: str, *, exempt: bool | None) -> None:
    assert principals(f"[principals.p]\n{line}")[0].exempt is exempt


def test_quotas_are_rejecting_resources_of_their_principal() -> None:
    (found,) = principals("""
    [principals.alice.quotas]
    tokens = { type = "rate", value = 1_000, period = "day", max = 5_000 }
    usd = { type = "capacity", value = 0.25, enforcement = "throttle", max_wait = "1m" }
    """)
    assert found.quotas == {
        "tokens": Resource("alice", Rate(1_000, "day", 5_000), Reject(), dim="tokens"),
        "usd": Resource("alice", Capacity(Decimal("0.25")), Throttle(), dim="usd", max_wait=60.0),
    }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("parent = 'bob'", "parent: there is no 'bob' in [principals]; known here: p"),
        ("parent = 'p'", "parent: p -> p is a circle; take"),
        ("parent = 7", "parent: 7 is no name; use"),
        ("exempt = 'yes'", "exempt: 'yes' is not a boolean; give true or false"),
        ("quota = {}", "quota: unknown key of a principal; did you mean 'quotas'?"),
        ("quotas = 5", "quotas: 5 is no table; write tokens = {"),
        ("quotas.tokens = 5", "quotas.tokens: 5 is no table; write tokens = {"),
        ("quotas.tokens = {type = 'capacity'}", "quotas.tokens.value: is missing; write value"),
        (
            "quotas.tokens = {type = 'capacity', value = 1, max = 2}",
            "quotas.tokens.max: unknown key of this quota; known here: type, value, enforcement,",
        ),
        (
            "quotas.tokens = {type = 'capacity', value = 1, enforcement = 'no'}",
            "quotas.tokens.enforcement: 'no' is no policy; give",
        ),
        (
            "quotas.token = {type = 'capacity', value = 1}",
            "quotas.token: unknown dimension 'token'; did you mean 'tokens'?",
        ),
        (
            "quotas.seconds = {type = 'capacity', value = 1}",
            "quotas.seconds: seconds is the wall clock of a task, no dimension: its name is millis",
        ),
        (
            "quotas.millis = {type = 'capacity', value = 1}",
            "quotas.millis: this limit: millis is wall clock and cannot be reserved",
        ),
        (
            "quotas.'a b' = {type = 'capacity', value = 1}",
            "quotas.'a b': 'a b' is no name of a dimension; use a-z, 0-9 and _, a letter first",
        ),
    ],
)
def test_what_cannot_be_says_why(lines: str, said: str) -> None:
    assert complaint(f"[principals.p]\n{lines}").startswith(f"m.toml:2: principals.p.{said}")


def test_parents_are_not_guessed_once_there_are_many_problems() -> None:
    tables = "".join(f"[principals.p{i}]\nparent = 'q'\n" for i in range(102))
    assert complaints(tables)[-1] == "m.toml: 2 more problems; mend these first"


def test_principal_that_is_no_table_is_refused() -> None:
    found = complaints("[principals]\np = 5\n[principals.q]\nparent = 'p'\n")
    assert found == ["m.toml:2: principals.p: 5 is no table; write [principals.NAME]"]
