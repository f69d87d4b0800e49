"""`budgetware serve`: the HTTP API and the live page of a ledger, in a process of its own.

Not here: the application (`budgetware.admin`).
"""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from budgetware.cli.failures import MISUSED, Failure, complain, misuse, told
from budgetware.cli.places import DEFAULT_MANIFEST, MANIFEST_VARIABLE

_PACKAGES = ("starlette", "uvicorn")
_DEFAULT_PORT = 8470


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    *,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"A manifest; default: {MANIFEST_VARIABLE}, ./{DEFAULT_MANIFEST}.",
            show_default=False,
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A ledger, as sqlite:///budgetware.db; overrides that of the manifest.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any that is free.")
    ] = _DEFAULT_PORT,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keys by which to ask; default: BUDGETWARE_ADMIN_KEYS. See below.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name that it is asked for by; repeatable. '*': any, which takes keys.",
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
) -> None:
    """Serve the HTTP API of a ledger, with a live page at its root.

    Without keys only this machine is served, and may do everything. A file of keys is TOML that
    its owner alone may read: tables [keys.NAME] with secret (32 characters or more), access
    ("read" or "write"), and, for a key of one principal, principal.

    The exit code is 0 when it was told to stop, 1 where it cannot serve, 2 where it may not.
    """
    _require_packages()
    with told():
        _serve(_manifest(manifest), ledger, host, port, keys, allow_host or [], access_log)


def _require_packages() -> None:
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        typer.echo('budgetware: this needs: pip install "budgetware[admin]"', err=True)
        raise typer.Exit(MISUSED)


def _manifest(given: Path | None) -> Path | None:
    named = os.environ.get(MANIFEST_VARIABLE)
    if given is not None or named:
        return given or Path(str(named))
    return DEFAULT_MANIFEST if DEFAULT_MANIFEST.is_file() else None


def _serve(
    manifest: Path | None,
    ledger: str | None,
    host: str,
    port: int,
    keys_file: Path | None,
    hosts: list[str],
    access_log: bool,  # noqa: FBT001 - the option as it was given
) -> None:
    import budgetware
    from budgetware import admin
    from budgetware.admin.keys import find_keys
    from budgetware.admin.serving import listen, serve, url_of

    with misuse():
        keys = find_keys(keys_file)
    if keys is None:
        _check_private(host, hosts)
    with budgetware.connect(manifest, ledger=ledger) as service:
        with misuse():
            app = admin.app(service, keys=keys, allow_hosts=[*hosts, *_named(host)])
        with listen(host, port) as taken:
            typer.echo(f"budgetware: serving {url_of(taken)}")
            if service.runtime.shared is None:
                complain(
                    "memory:// is the memory of this process alone: give --ledger to see others, "
                    "or mount budgetware.admin.app(service) in them"
                )
            serve(app, taken, access_log=access_log)


def _check_private(host: str, hosts: list[str]) -> None:
    """Raise where others than this machine could ask, as there are no keys."""
    from budgetware.admin.gate import ANY_HOST
    from budgetware.admin.serving import is_local

    if not is_local(host):
        raise Failure(
            f"--host {host} can be reached by others, and there are no keys: give --keys, or serve "
            "127.0.0.1",
            MISUSED,
        )
    if ANY_HOST in hosts:
        raise Failure(
            "--allow-host '*' lets any web page in a browser on this machine ask here under a name "
            "of its own (DNS rebinding), and there are no keys: give --keys, or the names that it "
            "is asked for by",
            MISUSED,
        )


def _named(host: str) -> list[str]:
    """The host by which it is asked for; that of all addresses is none."""
    return [] if host in ("0.0.0.0", "::", "[::]", "") else [host]  # noqa: S104 - not bound
