"""Whatever the text: a manifest, or problems that can be shown, and nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware.manifest import check_text, parse_manifest
from tests.manifest.test_reading import EXAMPLE

MORE = """
strict = true
lease_seconds = 10
durability = "full"
prices = { m = { input = "0.15", output = 0.60 } }
[resources.bytes]
limit = { type = "rate", value = "64MiB", period = "2h", max = "1GiB" }
enforcement = { type = "reject", patience = 5 }
dim = "bytes"
[budgets.more]
seconds = { limit = "2m", warn = 60.5 }
keep = { tokens = 5 }
tokens = 10
warn_at = 0.8
"""
VALID = MORE.split("[", 1)[0] + EXAMPLE + "[" + MORE.split("[", 1)[1]
VALUES = st.sampled_from(
    [
        "0",
        "-1",
        "1e300000",
        "nan",
        "-inf",
        "true",
        '"x"',
        "[]",
        "{}",
        "[[1], {a = 1}]",
        "07:32:00",
        "99999999999999999999",
        "0x" + "f" * 500,
        '"\\u001b[31m"',
        '"reject"',
        '"tokens"',
        '"a"',
        "1979-05-27T07:32:00Z",
        '{ type = "rate" }',
        "{ limit = 5, warn = 9 }",
        "5",
        '"2m"',
        "0.5",
    ]
)
KEYS = st.sampled_from(
    """
    limit dim parent type value tokens usd seconds keep quotas a "\\u001b" resources budgets unit
    principals prices dimensions ledger enforcement warn_at policy a.b resources.a.limit exempt
    """.split()
)


def check(text: str) -> None:
    manifest, problems = check_text(text, "m.toml")
    said = [problem.describe("m.toml") for problem in problems]
    assert (manifest is None) == bool(problems)
    assert all(line.isprintable() and line.startswith("m.toml:") for line in said)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text)


@settings(deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES) | KEYS, max_size=12))
def test_any_mixture_of_known_keys(parts: list[tuple[str, str] | str]) -> None:
    check("\n".join(f"[{p}]" if isinstance(p, str) else f"{p[0]} = {p[1]}" for p in parts))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_valid_manifest_with_a_piece_cut_out_or_put_in(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    end = data.draw(st.integers(start, min(start + 40, len(VALID))))
    piece = data.draw(
        st.sampled_from(["", "[", '"', "'''", ".", "=", "\n", "#", "-", "{"]) | VALUES
    )
    check(VALID[:start] + piece + VALID[end:])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_valid_manifest_with_another_value(data: st.DataObject) -> None:
    lines: list[str] = [*VALID.splitlines()]
    places = [number for number, line in enumerate(lines) if " = " in line]
    place = data.draw(st.sampled_from(places))
    key = lines[place].partition(" = ")[0]
    lines[place] = f"{key} = {data.draw(VALUES)}"
    check("\n".join(lines))


def test_manifest_that_is_mutated_is_valid_to_begin_with() -> None:
    assert len(parse_manifest(VALID).resources) == 4
