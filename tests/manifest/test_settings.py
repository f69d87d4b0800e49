"""The keys at the top of a manifest."""

from decimal import Decimal

import pytest

from budgetware.manifest import Manifest, parse_manifest
from tests.manifest.complaints import complaint


@pytest.mark.parametrize(
    "address",
    [
        "memory://",
        "sqlite:///a.db",
        "sqlite:////var/a.db",
        "redis://h:6379/0",
        "rediss://h",
        "valkey://h",
    ],
)
def test_ledger_is_read(address: str) -> None:
    assert parse_manifest(f"ledger = '{address}'").ledger == address


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("5", "ledger: 5 is no address of a ledger; give a text that begins with memory://, sqlit"),
        ("'postgres://u:secret@h'", "ledger: this is no address of a ledger; give one that begins"),
        ("'redis://h\\u001b'".replace("'", '"'), "ledger: this is no address of a ledger; give"),
        ("'sqlite:///'", "ledger: 'sqlite:///' names no file; write sqlite:///budgetware.db"),
    ],
)
def test_what_is_no_ledger_is_refused_without_repeating_a_password(value: str, said: str) -> None:
    refusal = complaint(f"ledger = {value}")
    assert refusal.startswith(f"m.toml:1: {said}")
    assert "secret" not in refusal


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://user:secret@h:6379/0", "redis://***@h:6379/0"),
        ("redis://:se/cr@et@h", "redis://***@h"),
        ("redis://h/0?password=secret", "redis://h/0"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("memory://", "memory://"),
    ],
)
def test_ledger_is_shown_without_its_password(address: str, shown: str) -> None:
    manifest = Manifest(ledger=address)
    assert manifest.ledger_shown == shown
    assert "secret" not in repr(manifest)


@pytest.mark.parametrize("name", ["token_keys", "token_keys.k1"])
def test_keys_do_not_belong_in_a_manifest(name: str) -> None:
    refusal = complaint(f"strict = true\n{name} = 'secret'")
    assert refusal.startswith("m.toml:2: token_keys: keys are secrets and never belong in a")
    assert "BUDGETWARE_TOKEN_KEYS" in refusal


def test_dimensions_are_read() -> None:
    manifest = parse_manifest("dimensions = ['joules', 'tokens', 'custom9']")
    assert manifest.dimensions == ("joules", "tokens", "custom9")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("5", "dimensions: 5 is no array; write dimensions = "),
        ("[\n5]", "dimensions[0]: 5 is no name of a dimension; give a text"),
        ("['a_b',\n'token']", "dimensions[1]: unknown dimension 'token'; did you mean 'tokens'?"),
        ("['a_b',\n'a_b']", "dimensions[1]: 'a_b' is listed twice; keep one"),
        ("['seconds']", "dimensions[0]: seconds is the wall clock of a task"),
        ("['usd_micros']", "dimensions[0]: unknown dimension 'usd_micros'; did you mean 'usd'?"),
    ],
)
def test_what_is_no_dimension_is_refused(value: str, said: str) -> None:
    line = 1 + value.count("\n")
    assert complaint(f"dimensions = {value}").startswith(f"m.toml:{line}: {said}")


def test_what_connect_takes_is_read() -> None:
    manifest = parse_manifest("""
    strict = true
    lease_seconds = "1m"
    durability = "full"
    on_ledger_error = "reject"
    outbox = "kept/here"
    """)
    assert manifest == Manifest(
        strict=True,
        lease_seconds=60.0,
        durability="full",
        on_ledger_error="reject",
        outbox="kept/here",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("strict = 'no'", "strict: 'no' is not a boolean; give true or false, without quotes"),
        ("lease_seconds = 0", "lease_seconds: 0 is no duration; give seconds above 0"),
        ("durability = 'ful'", "durability: 'ful' is not possible here; give 'normal' or 'full'"),
        ("on_ledger_error = []", "on_ledger_error: an array is not possible here; give 'lease'"),
        ("outbox = ''", "outbox: '' is no path; write outbox = "),
        ("outbox = 5", "outbox: 5 is no path; write outbox = "),
        ("leger = 'memory://'", "leger: unknown key of a manifest; did you mean 'ledger'?"),
        ("zzz = 1", "zzz: unknown key of a manifest; known here: ledger, dimensions, resources"),
    ],
)
def test_what_connect_does_not_take_is_refused(line: str, said: str) -> None:
    assert complaint(line).startswith(f"m.toml:1: {said}")


def test_prices_are_read_exactly() -> None:
    manifest = parse_manifest("""
    [prices]
    "gpt-4o-mini" = { input = "0.15", output = 0.60, cache_read = 0 }
    [prices."vendor/free"]
    input = 0
    """)
    assert manifest.prices == {
        "gpt-4o-mini": {
            "input": Decimal("0.15"),
            "output": Decimal("0.60"),
            "cache_read": Decimal(0),
        },
        "vendor/free": {"input": Decimal(0)},
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prices = 5", "prices: 5 is no table; write [prices."),
        ("prices.m = 5", "prices.m: 5 is no table; write [prices."),
        ("prices.m = {}", "prices.m: rates need at least an input or an output rate"),
        ("prices.m.inptu = 1", "prices.m.inptu: unknown key of the prices of a model; did you"),
        ("prices.m.input = -1", "prices.m.input: -1 is no price; give dollars per million tokens"),
        ("prices.m.input = nan", "prices.m.input: nan is no price; give"),
        ("prices.m.input = '$1'", "prices.m.input: '$1' is no price; give"),
        ("prices.m.input = 1e300000", "prices.m.input: 1e300000 is no price; give"),
        ("prices.m.input = 1e-300000", "prices.m: rate input: 1.000E-300000 is not a price in"),
        ("prices.m.input = true", "prices.m.input: true is no price; give"),
        (f"prices.{'m' * 257}.input = 1", f"prices.'{'m' * 56}...: the name of the model is too"),
    ],
)
def test_what_is_no_price_is_refused(line: str, said: str) -> None:
    assert complaint(line).startswith(f"m.toml:1: {said}")
