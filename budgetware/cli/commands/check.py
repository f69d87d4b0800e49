"""`budgetware check`: everything that is wrong with a manifest, or what is in it.

Not here: the rules (`budgetware.manifest`), nor putting a manifest into force.
"""

import json as jsonlib
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.text import Text

from budgetware.errors import ManifestError
from budgetware.kernel.budget import Limit
from budgetware.limits import LimitValue
from budgetware.manifest import (
    MAX_PROBLEMS,
    Manifest,
    Problem,
    Template,
    check_manifest,
    shown_file,
)
from budgetware.policies import Policy, policy_name
from budgetware.quotas import Concurrency, PrincipalDefinition, Rate, Resource

from ..columns import Rows, long

WRONG = 1
MISUSED = 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    manifest: Annotated[Path, typer.Argument(help="A TOML file.")] = Path("budgetware.toml"),
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a manifest, and list everything that is wrong with it.

    The exit code is 0 where all is right, 1 where something is wrong, 2 where there is no file.
    """
    try:
        found, problems = check_manifest(manifest)
    except ManifestError as error:
        if json:
            _print_json(manifest, None, (Problem(None, "", str(error)),))
        else:
            typer.echo(f"budgetware: {error}", err=True)
        raise typer.Exit(MISUSED) from None
    if json:
        _print_json(manifest, found, problems)
    elif found is None:
        _print_problems(str(manifest), problems)
    else:
        _print_summary(str(manifest), found)
    if found is None:
        raise typer.Exit(WRONG)


def _print_problems(file: str, problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        typer.echo(problem.describe(file), err=True)
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    if len(problems) > MAX_PROBLEMS:
        count = f"more than {MAX_PROBLEMS} problems"
    typer.echo(f"{count} in {shown_file(file)}", err=True)


def _print_summary(file: str, manifest: Manifest) -> None:
    console = Console(highlight=False)
    console.print(Text(f"{shown_file(file)}: all is right"))
    console.print(Text(f"ledger: {manifest.ledger_shown}"))
    if manifest.dimensions:
        console.print(Text(f"own dimensions: {', '.join(manifest.dimensions)}"))
    for table in (
        _resources_table(manifest),
        _budgets_table(manifest.budgets),
        _principals_table(manifest.principals),
    ):
        if len(table):
            table.print(console)


def _resources_table(manifest: Manifest) -> Rows:
    table = _table("resource", "counts", "limit", "when short", "parent")
    for resource in manifest.resources:
        table.add(
            resource.name,
            resource.dim or resource.units,
            _limit_text(resource),
            _enforcement_text(resource),
            resource.parent or "",
        )
    return table


def _budgets_table(budgets: Mapping[str, Template]) -> Rows:
    table = _table("budget", "limits", "options")
    for name, template in budgets.items():
        limits = [f"{dim} {_value_text(dim, given)}" for dim, given in template.limits.items()]
        options = [f"{key} {_option_text(given)}" for key, given in template.options.items()]
        table.add(name, ", ".join(limits), ", ".join(options))
    return table


def _principals_table(principals: tuple[PrincipalDefinition, ...]) -> Rows:
    table = _table("principal", "quotas", "exempt", "parent")
    for principal in principals:
        quotas = [
            f"{dim} {_limit_text(quota)}, {_enforcement_text(quota)}"
            for dim, quota in principal.quotas.items()
        ]
        exempt = {None: "", True: "yes", False: "no"}[principal.exempt]
        table.add(principal.name, "; ".join(quotas), exempt, principal.parent or "")
    return table


def _table(*names: str) -> Rows:
    return Rows([long(name) for name in names])


def _limit_text(resource: Resource) -> str:
    limit, dim = resource.limit, resource.dim or ""
    value = _value_text(dim, limit.value)
    if isinstance(limit, Rate):
        period = limit.period if isinstance(limit.period, str) else f"{limit.period:g} s"
        burst = "" if limit.max is None else f", {_value_text(dim, limit.max)} at once"
        return f"{value} / {period}{burst}"
    return f"{value} at once" if isinstance(limit, Concurrency) else f"{value} in all"


def _enforcement_text(resource: Resource) -> str:
    wait = "" if resource.max_wait is None else f", max_wait {_wait_text(resource.max_wait)}"
    return _policy_text(resource.policy) + wait


def _policy_text(policy: Policy) -> str:
    given = [
        f", {field.name} {_wait_text(getattr(policy, field.name))}"
        for field in fields(policy)
        if getattr(policy, field.name) != field.default
    ]
    return policy_name(policy) + "".join(given)


def _wait_text(value: object) -> str:
    return f"{value:g} s" if isinstance(value, float) else str(value)


def _value_text(dim: str, value: LimitValue) -> str:
    if isinstance(value, Limit):
        warn = "" if value.warn is None else f" (warn {_value_text(dim, value.warn)})"
        return _value_text(dim, value.limit) + warn
    if dim == "usd":
        return f"${value}"
    return f"{value:,}" if isinstance(value, int) else _plain(value)


def _option_text(value: Any) -> str:
    if isinstance(value, Mapping):
        keep = cast("Mapping[str, LimitValue]", value)
        return " + ".join(f"{_value_text(dim, kept)} {dim}" for dim, kept in keep.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _plain(value) if isinstance(value, str | float) else _policy_text(value)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_json(file: Path, manifest: Manifest | None, problems: tuple[Problem, ...]) -> None:
    document: dict[str, Any] = {
        "ok": manifest is not None,
        "file": str(file),
        "problems": [_fields(problem) for problem in problems],
    }
    if manifest is not None:
        document |= {
            "ledger": manifest.ledger_shown,
            "dimensions": manifest.dimensions,
            "resources": [_resource_json(resource) for resource in manifest.resources],
            "budgets": {name: _fields(given) for name, given in manifest.budgets.items()},
            "principals": [_principal_json(principal) for principal in manifest.principals],
        }
    typer.echo(jsonlib.dumps(document, default=_json, indent=2))


def _resource_json(resource: Resource) -> dict[str, Any]:
    kind = type(resource.limit).__name__.lower()
    limit = {"type": kind, **_fields(resource.limit)}
    return {**_fields(resource), "limit": limit, "enforcement": resource.policy}


def _principal_json(principal: PrincipalDefinition) -> dict[str, Any]:
    quotas = {dim: _resource_json(quota) for dim, quota in principal.quotas.items()}
    return {**_fields(principal), "quotas": quotas}


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _json(value: Any) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Limit):
        return _fields(value)
    return {"type": policy_name(value), **_fields(value)}
