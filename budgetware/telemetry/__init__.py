"""Spans, metrics and logs; a view of what happened, no part of any verdict.

Needs nothing but OpenTelemetry's API: where no SDK is configured, nothing is made. `setup` is
for programs that configure none. Not here: usage events, which are facts (`budgetware.events`).
"""

from __future__ import annotations

from .baggage import set_baggage
from .providers import Providers, setup

__all__ = ["Providers", "set_baggage", "setup"]
