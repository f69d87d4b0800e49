"""`connect`: from a manifest and arguments to a service. Not here: what a service does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import runtime
from .clock import Clock, parse_seconds
from .errors import ConfigurationError
from .kernel.dims import show
from .ledgers.addresses import MEMORY, ledger_at
from .ledgers.leases import OnLedgerError
from .ledgers.protocol import Ledger
from .ledgers.terms import KEEP_SECONDS
from .quotas import ON_LEDGER_ERROR
from .runtime import Runtime
from .service import QuotaService
from .token_keys import find_keys
from .views import changed_elsewhere, put_on

if TYPE_CHECKING:
    from .ledgers.outbox import Outbox
    from .manifest import Manifest
    from .pricing import PriceBook, PriceTable

MANIFEST_VARIABLE = "BUDGETWARE_MANIFEST"
LEASE_SECONDS = 10.0
LEAST_LEASE_SECONDS, MOST_LEASE_SECONDS = 0.1, 3_600.0


def connect(
    manifest: str | PathLike[str] | None = None,
    *,
    ledger: str | Ledger | None = None,
    clock: Clock | None = None,
    strict: bool | None = None,
    prices: PriceTable | None = None,
    token_keys: Mapping[str, bytes] | None = None,
    lease_seconds: float | str | None = None,
    durability: str | None = None,
    on_ledger_error: OnLedgerError | None = None,
    record_usage: bool | None = None,
    usage_retention: float | str | None = None,
    outbox: str | PathLike[str] | None = None,
    tracer_provider: Any = None,
    meter_provider: Any = None,
) -> QuotaService:
    """Make a service; enter it with `async with` or `with`.

    Without one, an in-memory default serves, with the manifest that `BUDGETWARE_MANIFEST` names.

    Args:
        manifest: a TOML file with resources, templates of tasks, principals and settings; what
            is given here comes before its settings.
        ledger: where shared balances live: `"memory://"`, the default, is this process;
            `"sqlite:///file"` one machine; `"redis://…"` or `"valkey://…"` many. Or a `Ledger`.
        clock: where time comes from; by default the system's clocks.
        strict: a reservation outside any task raises `NoBudget` instead of passing uncharged.
        prices: dollars per million tokens, `{"model": {"input": "0.15", "output": "0.60"}}`;
            asked before genai-prices.
        token_keys: secrets by name that sign exported tokens, `{"k1": secret}`, at least 32
            random bytes each; the first one signs, each is accepted. By default those of the file
            that `BUDGETWARE_TOKEN_KEYS` names: a line `name = hex digits` each, readable by its
            owner alone.
        lease_seconds: how long what a dead process had leased is held up, 10 by default.
        durability: `"normal"` (the default) or `"full"`, which survives a loss of power; `"none"`
            takes a Redis server that keeps nothing.
        on_ledger_error: while the ledger is away, `"lease"` (the default) spends what is leased
            until it ends, `"reject"` refuses, `"open"` lets calls through and books them later.
        record_usage: whether usage events are kept for reports; True by default.
        usage_retention: how long each of them is, 30 days by default; Redis keeps the newest
            100,000, memory 5,000. What they add up to by the hour stays 400 days.
        outbox: a directory for what cannot be told to the ledger: should this process die, the
            next one that opens a service with it books that, once.
        tracer_provider, meter_provider: OpenTelemetry's; by default the global ones.

    Raises:
        ConfigurationError: an argument is not what it should be.
        ManifestError: the manifest is wrong; the message lists everything that is.
    """
    _check_arguments(manifest, clock, strict, prices, tracer_provider, meter_provider)
    settings = None if manifest is None else _read(manifest)
    made = Runtime(
        clock=clock,
        strict=bool(_first(settings, "strict", strict)),
        prices=_price_book(_first(settings, "prices", prices)),
        token_keys=find_keys(token_keys),
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    given = partial(_first, settings)
    _share(
        made, given("ledger", ledger), given("lease_seconds", lease_seconds),
        durability=given("durability", durability),
        on_error=given("on_ledger_error", on_ledger_error), outbox=given("outbox", outbox),
    )  # fmt: skip
    _record(made, given("record_usage", record_usage), given("usage_retention", usage_retention))
    if settings is not None and made.shared is None:
        put_on(made, settings)
    return QuotaService(made, settings)


def _check_arguments(
    manifest: object,
    clock: object,
    strict: object,
    prices: object,
    tracer_provider: object,
    meter_provider: object,
) -> None:
    _check(clock, "clock", "now_ns", "time")
    _check(tracer_provider, "tracer_provider", "get_tracer")
    _check(meter_provider, "meter_provider", "get_meter")
    _check(prices, "prices", "items")
    if strict is not None and type(strict) is not bool:
        raise ConfigurationError(f"strict={str(strict)[:40]!r}: give True or False")
    if manifest is not None and not isinstance(manifest, str | PathLike):
        raise ConfigurationError(f"manifest={show(manifest)}: give the path of a TOML file")


def _first(settings: Manifest | None, key: str, given: object) -> Any:
    """What was given, else what the manifest says."""
    return given if given is not None or settings is None else getattr(settings, key)


def _share(
    made: Runtime,
    place: str | Ledger | None,
    lease_seconds: float | str | None,
    *,
    durability: str | None,
    on_error: OnLedgerError | None,
    outbox: str | PathLike[str] | None,
) -> None:
    """Give a service its ledger, not opened yet, unless that is the memory of this process."""
    if on_error not in (None, *ON_LEDGER_ERROR):
        raise ConfigurationError(
            f"on_ledger_error={show(on_error)}: give one of {', '.join(ON_LEDGER_ERROR)}"
        )
    seconds = parse_seconds(
        "lease_seconds", LEASE_SECONDS if lease_seconds is None else lease_seconds
    )
    if not LEAST_LEASE_SECONDS <= seconds <= MOST_LEASE_SECONDS:
        raise ConfigurationError(
            f"lease_seconds={seconds:g}: give {LEAST_LEASE_SECONDS:g} to {MOST_LEASE_SECONDS:g}"
        )
    ledger = ledger_at(MEMORY if place is None else place, durability)
    kept = None if outbox is None else _outbox(outbox)
    if ledger is not None:
        shared = made.share(ledger, seconds, on_error or "lease", kept)
        shared.on_change = lambda pool: changed_elsewhere(pool, made)


def _record(made: Runtime, is_recorded: bool | None, retention: float | str | None) -> None:  # noqa: FBT001
    """Have usage events kept, unless that is not wanted."""
    if is_recorded is not None and type(is_recorded) is not bool:
        raise ConfigurationError(f"record_usage={show(is_recorded)}: give True or False")
    seconds: float = KEEP_SECONDS
    if retention is not None:
        seconds = parse_seconds("usage_retention", retention)
    if is_recorded is not False:
        made.record_usage(seconds)


def _outbox(directory: str | PathLike[str]) -> Outbox:
    from .ledgers.outbox import Outbox

    return Outbox(directory)


def _make_default() -> Runtime:
    """What serves a process without a service: the manifest of the environment, or nothing."""
    service = connect(os.environ.get(MANIFEST_VARIABLE) or None)
    if service.runtime.shared is None:
        service.runtime.stop_recording()  # nobody has the service to ask for it
    else:
        service.open()
    return service.runtime


runtime.make_default = _make_default


def _read(path: str | PathLike[str]) -> Manifest:
    from .manifest import read_manifest

    return read_manifest(path)


def _check(value: object, what: str, *methods: str) -> None:
    if value is not None and not all(callable(getattr(value, name, None)) for name in methods):
        raise ConfigurationError(
            f"{what}={str(value)[:40]!r}: give an object with {' and '.join(methods)}, or None"
        )


def _price_book(table: PriceTable | None) -> PriceBook | None:
    if table is None:
        return None
    from .pricing import PriceBook

    return PriceBook(table)
