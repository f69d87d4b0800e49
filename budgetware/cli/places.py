"""Where a command looks: a ledger, a manifest that names one, or a running server.

Not here: opening it (`sources`).
"""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from .failures import MISUSED, Failure, told

DEFAULT_MANIFEST = Path("budgetware.toml")
MANIFEST_VARIABLE = "BUDGETWARE_MANIFEST"
URL_VARIABLE, KEY_VARIABLE = "BUDGETWARE_URL", "BUDGETWARE_KEY"
MOST_KEY_BYTES = 4_096
_PANEL = "Where to look"

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: one of a manifest, a ledger (which overrides that of the manifest), a server.

    Attributes:
        key: of the server; it is in no repr and no message.
    """

    manifest: Path | None = None
    ledger: str | None = None
    url: str | None = None
    key: str | None = field(default=None, repr=False)


def _option(*names: str, metavar: str, help: str) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=help, rich_help_panel=_PANEL, show_default=False
    )


_OPTIONS: dict[str, Any] = {
    "ledger": Annotated[
        str | None,
        _option("--ledger", metavar="URL", help="A ledger, as sqlite:///budgetware.db."),
    ],
    "manifest": Annotated[
        Path | None,
        _option(
            "--manifest",
            metavar="FILE",
            help=f"A manifest that names one; default: {MANIFEST_VARIABLE}, ./{DEFAULT_MANIFEST}.",
        ),
    ],
    "url": Annotated[
        str | None,
        _option("--url", metavar="URL", help=f"A running server; default: {URL_VARIABLE}."),
    ],
    "key": Annotated[
        str | None,
        _option(
            "--key",
            metavar="SECRET",
            help=f"Its key; better in {KEY_VARIABLE}, where ps does not show it, or in a file.",
        ),
    ],
    "key_file": Annotated[
        Path | None, _option("--key-file", metavar="FILE", help="A file that holds the key.")
    ],
}


def located(
    command: Callable[Concatenate[Place, Arguments], None],
) -> Callable[..., None]:
    """Give a command the options that say where to look, and have its failures told."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        with told():
            place = find_place(**{name: given.pop(name) for name in _OPTIONS})
            command(place, **given)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    run.__dict__["__signature__"] = inspect.Signature([*own, *options])
    run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    return run


def find_place(
    *,
    ledger: str | None = None,
    manifest: Path | None = None,
    url: str | None = None,
    key: str | None = None,
    key_file: Path | None = None,
) -> Place:
    """Decide where to look: what was given, else the environment, else the manifest here.

    Raises:
        Failure: options contradict each other, or there is nowhere to look.
    """
    if url is not None and (ledger is not None or manifest is not None):
        raise Failure("--url asks a server, which has its ledger: leave out the others", MISUSED)
    if key is not None and key_file is not None:
        raise Failure("--key and --key-file both give the key: leave out one", MISUSED)
    if ledger is None and manifest is None:
        url = url or os.environ.get(URL_VARIABLE) or None
    if url is not None:
        return Place(url=url, key=_key(key, key_file))
    if key is not None or key_file is not None:
        raise Failure(f"a key is for a server: give its --url, or {URL_VARIABLE}", MISUSED)
    if manifest is None and ledger is None:
        manifest = default_manifest()
        if manifest is None:
            raise Failure(
                f"there is no ./{DEFAULT_MANIFEST}: give --ledger, --manifest or --url", MISUSED
            )
    return Place(manifest=manifest, ledger=ledger)


def default_manifest() -> Path | None:
    """The manifest of the environment, else the one here, if there is one."""
    named = os.environ.get(MANIFEST_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_MANIFEST if DEFAULT_MANIFEST.is_file() else None


def _key(given: str | None, file: Path | None) -> str | None:
    key = given or os.environ.get(KEY_VARIABLE) or None
    if file is not None:
        key = _read_key(file)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise Failure("the key is not one line of printable ASCII: give it as it was made", MISUSED)
    return key


def _read_key(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            key = opened.read(MOST_KEY_BYTES + 1).decode().strip()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "that is no text"
        raise Failure(f"--key-file {file}: cannot be read: {why}", MISUSED) from None
    if not key or len(key) > MOST_KEY_BYTES:
        raise Failure(f"--key-file {file}: give a file with nothing but the key", MISUSED)
    return key
