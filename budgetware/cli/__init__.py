"""The command `budgetware`. Its libraries come with the extra `cli`, and load when it runs."""

import importlib.util
import io
import sys

MISUSED = 2


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    if any(importlib.util.find_spec(name) is None for name in ("typer", "rich")):
        print('budgetware: its command line needs: pip install "budgetware[cli]"', file=sys.stderr)
        raise SystemExit(MISUSED)
    from .app import make_app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in a C locale is no failure
    make_app()(prog_name="budgetware")
