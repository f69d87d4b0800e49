"""A ledger in one SQLite file, which the processes of one machine share.

`ledger` is what it does, `rows` and `journal` how that is written down, `schema` the tables;
`database` makes transactions, `file` opens and checks, `boot` notices that the machine was
started anew. Not here: what is decided (`rules`), and a thread to wait in (`courier`).
"""

from .ledger import SqliteLedger

__all__ = ["SqliteLedger"]
