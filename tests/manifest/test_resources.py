"""`[resources.NAME]`: what one may say, and what is wrong with it."""

from decimal import Decimal

import pytest

from budgetware.manifest import parse_manifest
from budgetware.policies import Policy, Reject, Terminate, Throttle
from budgetware.quotas import Capacity, Concurrency, QuotaLimit, Rate, Resource
from tests.manifest.complaints import RATE, complaint, complaints

CAPACITY = '{ type = "capacity", value = 10 }'


def resource(*lines: str, limit: str = RATE) -> Resource:
    text = "\n".join(["[resources.r]", f"limit = {limit}", *lines])
    return parse_manifest(text).resources[0]


def refusal(*lines: str, limit: str = RATE) -> str:
    return complaint("\n".join(["[resources.r]", f"limit = {limit}", *lines]))


@pytest.mark.parametrize(
    ("lines", "limit", "read"),
    [
        ((), RATE, Rate(10, "minute")),
        ((), '{ type = "rate", value = 10, period = 90, max = 20 }', Rate(10, 90.0, 20)),
        ((), '{ type = "rate", value = 10, period = 0.5 }', Rate(10, 0.5)),
        ((), '{ type = "rate", value = 10, period = "2h30m" }', Rate(10, 9_000.0)),
        ((), CAPACITY, Capacity(10)),
        ((), '{ type = "concurrency", value = 4 }', Concurrency(4)),
        (('dim = "usd"',), '{ type = "capacity", value = "0.25" }', Capacity(Decimal("0.25"))),
        (('dim = "bytes"',), '{ type = "capacity", value = "1KiB" }', Capacity(1_024)),
        (('dim = "memory"',), '{ type = "concurrency", value = "1KiB" }', Concurrency(1_024)),
    ],
)
def test_limit_is_read(lines: tuple[str, ...], limit: str, read: QuotaLimit) -> None:
    assert resource(*lines, limit=limit).limit == read


def test_limit_may_be_a_table_of_its_own() -> None:
    text = '[resources.r.limit]\ntype = "capacity"\nvalue = 5\n'
    assert parse_manifest(text).resources[0].limit == Capacity(5)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("5", "limit: 5 is no table; write limit = { type = "),
        ("{ value = 5 }", "limit.type: is missing; write type = "),
        ('{ type = "capacity" }', "limit.value: is missing; write value = 1_000"),
        ('{ type = "rate", value = 5 }', 'limit.period: is missing; write period = "minute"'),
        (
            '{ type = "rat", value = 5 }',
            (
                "limit.type: 'rat' is not possible here; give 'rate' or 'capacity' or 'concurrency'"
                "; did you mean 'rate'?"
            ),
        ),
        ("{ type = 5, value = 5 }", "limit.type: 5 is not possible here; give 'rate' or"),
        (
            '{ type = "capacity", value = 5, period = "day" }',
            "limit.period: unknown key of this limit; known here: type, value",
        ),
        (
            '{ type = "rate", value = 5, periode = "day", period = "day" }',
            "limit.periode: unknown key of this limit; did you mean 'period'?",
        ),
        (
            '{ type = "rate", value = 5, period = "fortnight" }',
            "limit.period: 'fortnight' is no period; give second, minute, hour, day, month, year",
        ),
        ('{ type = "rate", value = 5, period = 1e-10 }', "limit.period: 1e-10 is no period"),
        ('{ type = "rate", value = 5, period = "day", max = 0 }', "limit.max: 0 is not above 0"),
        ('{ type = "capacity", value = "0.25" }', "limit.value: '0.25' is not an int"),
        ('{ type = "concurrency", value = inf }', "limit.value: inf is not an int"),
    ],
)
def test_limit_that_cannot_be_says_why(limit: str, said: str) -> None:
    assert refusal(limit=limit).startswith(f"m.toml:2: resources.r.{said}")


def test_resource_needs_a_limit() -> None:
    said = complaint("\n[resources.r]\ndim = 'tokens'")
    assert said.startswith("m.toml:2: resources.r.limit: is missing; write limit = { type")


def test_resource_is_a_table() -> None:
    assert complaint("[resources]\nr = 5").startswith("m.toml:2: resources.r: 5 is no table; write")
    assert complaint("resources = 5").startswith("m.toml:1: resources: 5 is no table; write")
    assert complaints("[[resources]]\n")[0].startswith("m.toml:1: resources: an array is no table")


def test_resource_has_a_valid_name() -> None:
    said = complaint(f"[resources.'a b']\nlimit = {RATE}")
    assert said == (
        "m.toml:1: resources.'a b': 'a b' is no name; use 1 to 128 of A-Z a-z 0-9 . _ : @ -"
    )


@pytest.mark.parametrize(
    ("line", "policy"),
    [
        ("", Throttle()),
        ('enforcement = "throttle"', Throttle()),
        ('enforcement = "reject"', Reject()),
        ('enforcement = "terminate"', Terminate()),
        ('enforcement = { type = "throttle", max_wait = "2m" }', Throttle(120.0)),
        ('enforcement = { type = "throttle", max_wait = 0 }', Throttle(0.0)),
        ('enforcement = { type = "reject", patience = 3 }', Reject(3)),
        ('enforcement = { type = "terminate", settle_seconds = 0.5 }', Terminate(0.5)),
        ('enforcement = { type = "terminate" }', Terminate()),
    ],
)
def test_enforcement_is_read(line: str, policy: Policy) -> None:
    assert resource(line).policy == policy


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"rejct"', ": 'rejct' is no policy; give 'throttle', 'reject' or 'terminate'"),
        ("5", ": 5 is no policy; give"),
        ("{ patience = 3 }", ".type: is missing; write enforcement = { type = "),
        ('{ type = "reject", max_wait = 3 }', ".max_wait: unknown key of a reject policy; known"),
        ('{ type = "reject", patience = 0 }', ".patience: 0 is no patience; give how many"),
        ('{ type = "throttle", max_wait = -1 }', ".max_wait: -1 is no duration; give seconds of 0"),
        ('{ type = "throttle", max_wait = nan }', ".max_wait: nan is no duration; give"),
        ('{ type = "terminate", settle_seconds = true }', ".settle_seconds: true is no duration"),
    ],
)
def test_enforcement_that_cannot_be_says_why(value: str, said: str) -> None:
    assert refusal(f"enforcement = {value}").startswith(f"m.toml:3: resources.r.enforcement{said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('dim = "token"', "dim: unknown dimension 'token'; did you mean 'tokens'?"),
        ('dim = "Tokens"', "dim: 'Tokens' is no name of a dimension; did you mean 'tokens'?"),
        ('dim = "№"', "dim: '№' is no name of a dimension; use a-z, 0-9 and _"),
        ("dim = 5", "dim: 5 is no name of a dimension; give a text such as 'tokens'"),
        ('dim = "millis"', "limit: this limit: millis is wall clock and cannot be reserved"),
        ('dim = "memory"', "limit: this limit: memory is a level: give it a Capacity or a Conc"),
        ('max_wait = "soon"', "max_wait: 'soon' is no duration; give seconds of 0 or more, or"),
        ('unit = ""', "unit: '' is no word for a unit; give 1 to 64 printable characters"),
        ('units = "\\u001b"', "units: '\\x1b' is no word for a unit; give"),
        ('parent = "a b"', "parent: 'a b' is no name; use 1 to 128 of"),
        ("parent = 5", "parent: 5 is no name; use 1 to 128 of"),
        ("per_call = 1", "per_call: 1 is not a boolean; give true or false, without quotes"),
        ('stranded = "kept"', "stranded: 'kept' is not possible here; give 'keep' or 'free'"),
        ('on_ledger_error = "x"', "on_ledger_error: 'x' is not possible here; give 'lease' or"),
        ("enforcment = 1", "enforcment: unknown key of a resource; did you mean 'enforcement'?"),
    ],
)
def test_key_that_cannot_be_says_why(line: str, said: str) -> None:
    assert refusal(line).split(": ", 1)[1].startswith(f"resources.r.{said}")


def test_what_is_for_ledgers_is_accepted() -> None:
    found = resource(
        "per_call = true", "max_lease = 5", 'stranded = "free"', 'on_ledger_error = "open"'
    )
    assert found == Resource(
        "r",
        Rate(10, "minute"),
        per_call=True,
        max_lease=5,
        stranded="free",
        on_ledger_error="open",
    )


def test_dollars_are_no_slots() -> None:
    said = refusal('dim = "usd"', limit='{ type = "concurrency", value = 4 }')
    assert said.endswith("dollars are no slots: give a Rate or a Capacity")


def test_amounts_of_an_unknown_dimension_are_not_judged() -> None:
    said = refusal('dim = "usdd"', limit='{ type = "capacity", value = "0.25" }')
    assert said.startswith("m.toml:3: resources.r.dim: unknown dimension 'usdd'; did you mean")


def tree(*parents: tuple[str, str | None]) -> str:
    return "\n".join(
        f"[resources.{name}]\nlimit = {CAPACITY}\n" + (f"parent = '{above}'" if above else "")
        for name, above in parents
    )


def test_parents_come_first() -> None:
    text = tree(("a", "b"), ("x", None), ("b", "c"), ("c", None), ("d", "b"))
    assert [found.name for found in parse_manifest(text).resources] == ["c", "b", "a", "x", "d"]


def test_parent_has_to_be_there() -> None:
    assert complaint(tree(("org", None), ("a", "orgg"))) == (
        "m.toml:6: resources.a.parent: there is no 'orgg' in [resources]; did you mean 'org'?"
    )


def test_parents_of_what_is_wrong_otherwise_are_judged_too() -> None:
    found = complaints("[resources.a]\nlimit = 1\nparent = 'b'\n[resources.b]\nparent = 'a'\n")
    assert [said.split(": ")[1] for said in found] == [
        "resources.a.limit",
        "resources.a.parent",
        "resources.b.limit",
    ]


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        ((("a", "a"),), "resources.a.parent: a -> a is a circle"),
        ((("a", "b"), ("b", "a")), "resources.a.parent: a -> b -> a is a circle"),
        (
            (("x", "c"), ("b", "c"), ("c", "d"), ("d", "b"), ("y", "x")),
            "resources.b.parent: b -> c -> d -> b is a circle",
        ),
    ],
)
def test_circle_is_one_problem_that_names_it(
    parents: tuple[tuple[str, str], ...], said: str
) -> None:
    assert said + "; take the parent of one of them away" in complaint(tree(*parents))


def test_large_circle_is_drawn_in_part() -> None:
    circle = [(f"n{i}", f"n{(i + 1) % 3_000}") for i in range(3_000)]
    said = complaint(tree(*circle))
    assert "n0 -> n1 -> n2 -> n3 -> n4 -> n5 -> n6 -> n7 -> ... -> n0 is a circle" in said


def test_two_circles_are_two_problems() -> None:
    assert len(complaints(tree(("a", "a"), ("b", "c"), ("c", "b")))) == 2


def test_long_chain_of_parents_is_ordered() -> None:
    chain = [(f"n{i}", f"n{i + 1}") for i in range(3_000)]
    found = parse_manifest(tree(*chain, ("n3000", None))).resources
    assert (found[0].name, found[-1].name) == ("n3000", "n0")


def test_parent_counts_the_same_dimension() -> None:
    text = f"""[resources.org]
limit = {CAPACITY}
dim = "calls"
[resources.a]
limit = {CAPACITY}
dim = "tokens"
parent = "org"
"""
    assert complaint(text) == (
        "m.toml:7: resources.a.parent: 'org' counts 'calls', not 'tokens'; give a resource a "
        "parent that counts the same"
    )


@pytest.mark.parametrize("line", ["", 'dim = "calls"'])
def test_parent_without_a_dimension_fits(line: str) -> None:
    text = tree(("a", None)) + f"[resources.b]\nlimit = {CAPACITY}\nparent = 'a'\n{line}"
    assert len(parse_manifest(text).resources) == 2
