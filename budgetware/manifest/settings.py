"""The keys at the top of a manifest: ledger, dimensions, prices and what `connect` takes.

Not here: its named tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Final, cast

from ..errors import ConfigurationError, InvalidAmount
from ..kernel.prices import TOKEN_RATES
from ..pricing import PriceBook, PriceTable
from .section import Section
from .values import dimension, number, shown, wrong

SCHEMES: Final = ("memory://", "sqlite:///", "redis://", "rediss://", "valkey://")
KEYS: Final = (
    "ledger",
    "dimensions",
    "resources",
    "budgets",
    "principals",
    "strict",
    "prices",
    "lease_seconds",
    "durability",
    "record_usage",
    "usage_retention",
    "on_ledger_error",
    "outbox",
)
_PRICES: Final = '[prices."gpt-4o-mini"] with input = "0.15" and output = "0.60"'
_RATES: Final = (*TOKEN_RATES, "server_tool_call", "request")
_MAX_MODEL: Final = 256


def check_keys(root: Section) -> None:
    """Complain about keys that no manifest has, and about secrets."""
    if "token_keys" in root.data:
        root.wrong(
            "keys are secrets and never belong in a manifest; put them in a file of their own and "
            "name it in the environment variable BUDGETWARE_TOKEN_KEYS",
            "token_keys",
        )
    rest = {key: value for key, value in root.data.items() if key != "token_keys"}
    Section(rest, root.path, root.problems).only(KEYS, "a manifest")


def ledger(value: object) -> str:
    """Read the address of a ledger; an error does not repeat it, as it may hold a password."""
    known = ", ".join(SCHEMES)
    if not isinstance(value, str):
        raise wrong(value, "is no address of a ledger", f"give a text that begins with {known}")
    if not value.startswith(SCHEMES) or not value.isprintable() or len(value) > 2_048:
        raise InvalidAmount(f"this is no address of a ledger; give one that begins with {known}")
    if value == "sqlite:///":
        raise wrong(value, "names no file", "write sqlite:///budgetware.db")
    return value


def directory(value: object) -> str:
    """Read the path of a directory."""
    if isinstance(value, str) and 0 < len(value) <= 4_096 and value.isprintable():
        return value
    raise wrong(value, "is no path", 'write outbox = "budgetware-outbox"')


def read_dimensions(root: Section) -> tuple[str, ...]:
    """Read the names of the user's own dimensions; nothing is declared yet."""
    given = root.data.get("dimensions", [])
    if not isinstance(given, list):
        message = f'{shown(given)} is no array; write dimensions = ["gpu_seconds"]'
        root.wrong(message, "dimensions")
        return ()
    names: dict[str, None] = {}
    for index, value in enumerate(cast("list[object]", given)):
        name = root.check(partial(dimension, value), "dimensions", index)
        if name in names:
            root.wrong(f"{name!r} is listed twice; keep one", "dimensions", index)
        if name is not None:
            names[name] = None
    return tuple(names)


def read_prices(root: Section) -> PriceTable | None:
    """Read the rates of models, in dollars per million tokens."""
    if "prices" not in root.data:
        return None
    table: dict[str, Mapping[str, Decimal]] = {}
    for section in root.tables("prices", _PRICES, any_name=True):
        before = section.problems.count
        if len(section.name) > _MAX_MODEL:
            section.wrong(f"the name of the model is too long; give at most {_MAX_MODEL}")
            continue
        section.only(_RATES, "the prices of a model")
        given = {key: section.get(key, _rate) for key in _RATES}
        rates = {key: rate for key, rate in given.items() if rate is not None}
        if section.problems.count == before:
            section.check(partial(_check_rates, section.name, rates))
        table[section.name] = MappingProxyType(rates)
    return MappingProxyType(table)


def _rate(value: object) -> Decimal:
    rate = number(value)
    if rate is None or not rate.is_finite() or not 0 <= rate <= 10**9:
        instead = 'give dollars per million tokens, 0 to 10**9, such as "0.15"'
        raise wrong(value, "is no price", instead)
    return rate


def _check_rates(model: str, rates: Mapping[str, Decimal]) -> None:
    try:
        PriceBook({model: rates}, use_genai_prices=False)
    except ConfigurationError as error:
        raise InvalidAmount(str(error).removeprefix(f"prices of {model!r}: ")) from None
