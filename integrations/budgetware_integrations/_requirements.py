"""Whether the framework of a module is there, in a version it was made for."""

from __future__ import annotations

import re
import warnings
from importlib.metadata import PackageNotFoundError, version

from budgetware.errors import ConfigurationError


class MissingFramework(ConfigurationError, ImportError):
    """A framework is not installed, or too old; the message says what to install."""


def require(distribution: str, lowest: str, below: str, *, extra: str | None = None) -> None:
    """Raise `MissingFramework` unless a distribution is there; warn where it is newer than known.

    Args:
        distribution: its name on PyPI.
        lowest: the first version that works.
        below: the first version that was never tried.
        extra: of budgetware, which installs it; by default, its name.
    """
    install = f"pip install 'budgetware[{extra or distribution}]'"
    try:
        found = version(distribution)
    except PackageNotFoundError:
        raise MissingFramework(
            f"{distribution} is not installed, which this module is for: {install}"
        ) from None
    if _parts(found) < _parts(lowest):
        raise MissingFramework(
            f"{distribution} {found} is too old, {lowest} or later is needed: {install}"
        )
    if _parts(found) >= _parts(below):
        warnings.warn(
            f"{distribution} {found} is newer than what this module was tried with "
            f"(before {below}): if it fails, install an older one: {install}",
            stacklevel=3,
        )


def _parts(text: str) -> tuple[int, ...]:
    """The numbers of a release; what makes it a pre-release is left out."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in release.group().split(".")) if release else ()
