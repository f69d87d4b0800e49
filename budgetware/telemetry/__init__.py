"""Spans, metrics and logs; a view of what happened, no part of any verdict."""

from __future__ import annotations

from typing import Any


class Telemetry:
    def __init__(self, runtime: Any, tracer_provider: Any, meter_provider: Any) -> None:
        pass

    def observer(self) -> Any:
        return None

    def refused(self, refusal: Any) -> None:
        pass

    def close(self) -> None:
        pass
