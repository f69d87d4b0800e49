"""The typer application: every module in `commands` adds itself to it with `register(app)`."""

import importlib
import pkgutil
from importlib.metadata import version
from typing import Annotated

import typer

from . import commands
from .group import Commands


def make_app() -> typer.Typer:
    """Collect the commands, in the order of their names."""
    app = typer.Typer(
        name="budgetware",
        cls=Commands,
        help="Budgets for agents: reserve before the call, settle after it, stop at the limit.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # the others keep the line breaks of docstrings
    )
    app.callback()(_options)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        importlib.import_module(f"{commands.__name__}.{module.name}").register(app)
    return app


def _show_version(is_asked: bool) -> None:  # noqa: FBT001
    if is_asked:
        typer.echo(f"budgetware {version('budgetware')}")
        raise typer.Exit


_VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
]


def _options(*, _version: _VersionOption = False) -> None:
    """Take the options of no command; keeps the name of a command in the call, too."""
