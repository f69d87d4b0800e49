"""A ledger in Redis or Valkey: one script per step, and one round trip.

`ledger` is what a service calls, `connection` the line to the server, `scripts` the steps in Lua
and `rows` how their numbers travel. redis-py is imported where a `RedisLedger` is made. Not here:
what is decided, which `rules` says and `sync.lua` says again.
"""

from .ledger import RedisLedger

__all__ = ["RedisLedger"]
