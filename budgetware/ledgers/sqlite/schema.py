"""The tables of the file, by version, and the way from one version to the next.

Amounts are integers, or, beyond 64 bits, the text of one: SQLite would make a float of it. Not
here: what is in the tables (`rows`, `journal`, `ledger`).
"""

from __future__ import annotations

from sqlite3 import Connection

APPLICATION_ID = 0x62677764
"""Marks the file as a ledger of budgetware: "bgwd"."""


def _amount(name: str) -> str:
    return f"{name} ANY NOT NULL CHECK (typeof({name}) IN ('integer', 'text'))"


_VERSION_1 = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID",
    f"""
    CREATE TABLE nodes (
        id INTEGER PRIMARY KEY,
        node TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        {_amount("value")},
        period_us INTEGER NOT NULL,
        {_amount("burst")},
        stranded_is TEXT NOT NULL,
        definition TEXT NOT NULL,
        revision INTEGER NOT NULL,
        declared TEXT,
        {_amount("used")},
        {_amount("out")},
        {_amount("stranded")},
        {_amount("level_micro")},
        anchor_us INTEGER NOT NULL,
        {_amount("shares")},
        {_amount("caps")},
        recover_us INTEGER NOT NULL,
        touched_us INTEGER NOT NULL,
        latch TEXT NOT NULL,
        is_deleted INTEGER NOT NULL,
        lines INTEGER NOT NULL,
        next_line INTEGER NOT NULL
    ) STRICT
    """,
    f"""
    CREATE TABLE leases (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        holder TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        {_amount("counted")},
        {_amount("units")},
        {_amount("stranded")},
        {_amount("head")},
        ticket_us INTEGER NOT NULL,
        expires_us INTEGER NOT NULL,
        ttl_us INTEGER NOT NULL,
        {_amount("demand")},
        {_amount("share")},
        {_amount("cap")},
        is_over INTEGER NOT NULL,
        answer TEXT,
        UNIQUE (node, holder)
    ) STRICT
    """,
    "CREATE INDEX leases_live ON leases (node) WHERE is_over = 0",
    "CREATE INDEX leases_over ON leases (expires_us) WHERE is_over = 1",
    f"""
    CREATE TABLE journal (
        node INTEGER NOT NULL,
        line INTEGER NOT NULL,
        holder TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        {_amount("used")},
        {_amount("out")},
        {_amount("stranded")},
        PRIMARY KEY (node, line)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE additions (
        node TEXT NOT NULL, request TEXT NOT NULL, PRIMARY KEY (node, request)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE tokens (token TEXT PRIMARY KEY, expires REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX tokens_expiry ON tokens (expires)",
    """
    CREATE TABLE texts (
        key TEXT PRIMARY KEY, expires REAL NOT NULL, text TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX texts_expiry ON texts (expires)",
    """
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        holder TEXT NOT NULL,
        number INTEGER NOT NULL,
        timestamp REAL NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (holder, number)
    ) STRICT
    """,
    "CREATE INDEX usage_time ON usage (timestamp)",
)

_VERSION_2 = (
    """
    CREATE TABLE usage_sums (
        ends INTEGER NOT NULL, grp TEXT NOT NULL, units TEXT NOT NULL, PRIMARY KEY (ends, grp)
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2)
"""The statements that make version n + 1 of version n; 0 is an empty file."""


def version() -> int:
    """The version this program reads and writes."""
    return len(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Bring the tables to this version, within the transaction that is open."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == version():
        return
    for statements in MIGRATIONS[found:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version()}")
