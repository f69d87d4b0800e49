"""What is shipped, taken apart: dashboards, their panels and queries, rules and the console."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parent.parent.parent / "examples/dashboards"
FILES = sorted(SHIPPED.glob("*.json"))
CONSOLE = SHIPPED / "consoles/budgetware.html"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ALL = {"job": ".*", "budget": ".*", "dim": ".*", "operation": ".*"}
BUILT_IN = {"__rate_interval": "1m", "__range": "15m"}
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_METRIC = r"budgetware(?:_\w+_(?:total|bucket)|_quota_(?:usage|limit)|:[\w:]+)"
_SELECTOR = re.compile(_METRIC + r"(?:\{[^}]*\})?")
_LABEL = re.compile(r"\{\{(\w+)\}\}")
_CONSOLE_QUERY = re.compile(r"query `([^`]+)`|printf `([^`]*%q[^`]*)`((?: \$\w+)+)")
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    board: str
    panel: Mapping[str, Any]
    target: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.board}-{self.panel['title']}-{self.target['refId']}"

    @property
    def legend_labels(self) -> set[str]:
        return set(_LABEL.findall(self.target.get("legendFormat", "")))

    def expression(self, **chosen: str) -> str:
        """As Grafana sends it: all is chosen, or these values of some variables."""
        return substituted(self.target["expr"], ALL | BUILT_IN | chosen)

    def legend(self, labels: Mapping[str, str]) -> str:
        """As Grafana writes it beside a series."""
        return _LABEL.sub(lambda m: labels.get(m[1], ""), self.target["legendFormat"])


def substituted(expression: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda m: values[m[1]], expression)


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def panels(path: Path) -> list[dict[str, Any]]:
    """All panels of a dashboard, rows apart."""
    return [panel for panel in board(path)["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [
        Query(path.stem, panel, target)
        for path in FILES
        for panel in panels(path)
        for target in panel["targets"]
    ]


def variables(path: Path) -> list[dict[str, Any]]:
    """Those that are filled by a query."""
    return [one for one in board(path)["templating"]["list"] if one["type"] == "query"]


def selectors(expression: str) -> list[str]:
    """The series that an expression of a rule reads, each once."""
    return sorted(set(_SELECTOR.findall(expression)))


def console_queries() -> Iterator[str]:
    """The console's; those that are asked for each row of a table, with what one row has."""
    for plain, template, names in _CONSOLE_QUERY.findall(CONSOLE.read_text(encoding="utf-8")):
        yield plain or filled(template, names.split())


def filled(template: str, names: list[str]) -> str:
    row = {"$dim": "tokens", "$operation": "chat", "$error": "LookupError"}
    row["$name"] = "model" if "wait_duration" in template else "debtor"
    parts = template.split("%q")
    between = [f'"{row[name]}"' for name in names]
    return "".join(part for pair in zip(parts, [*between, ""], strict=True) for part in pair)
