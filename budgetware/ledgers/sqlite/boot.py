"""Whether the machine was started anew since the file was written, and what that changes.

Leases end by a clock that all processes of one boot share, which no step of the wall clock
touches; after a reboot it begins anew. Not here: what happens to leases that have ended (`rules`).
"""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """What tells this boot of the machine from others; `""` where nothing does."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def is_known(connection: Connection, now_us: int) -> bool:
    """Say whether the file was last written in this boot, as far as anybody can tell."""
    known, current = _known(connection), boot_id()
    if known != current or current:
        return known == current
    # Without an id a reboot shows only in a clock that is behind what was written by it. Where it
    # is ahead all the same, it is by less than the time that has passed: leases end late at most.
    latest_us = connection.execute("SELECT max(touched_us) FROM nodes").fetchone()[0]
    return latest_us is None or latest_us <= now_us


def _known(connection: Connection) -> str | None:
    row = connection.execute("SELECT text FROM facts WHERE name = 'boot'").fetchone()
    return None if row is None else str(row[0])


def note(connection: Connection, now_us: int) -> None:
    """Begin with the clock of this boot: no lease of one before goes on."""
    if _known(connection) is not None:
        # Whoever had them is gone. The rules end them, with their margin; those that were over
        # already are remembered for another day.
        connection.execute("UPDATE leases SET expires_us = ? - ttl_us - 1", (now_us,))
        # How long the machine was off nobody knows for sure, so no rate is refilled for it.
        connection.execute(
            "UPDATE nodes SET anchor_us = ?, touched_us = ?, recover_us = 0", (now_us, now_us)
        )
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('boot', ?)", (boot_id(),))
