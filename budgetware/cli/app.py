"""The typer application: every module in `commands` adds itself to it with `register(app)`."""

import importlib
import pkgutil

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
    app.callback()(_no_options)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        importlib.import_module(f"{commands.__name__}.{module.name}").register(app)
    return app


def _no_options() -> None:
    """Keep the name of a command in the call even while there is only one."""
