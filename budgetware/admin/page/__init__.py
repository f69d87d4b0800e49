"""The live page: one text without a build step, and the policy that lets only its own code run.

Not here: what serves it (`admin`), and what it shows, which it asks the same HTTP API for.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

SCRIPTS = (
    "text",
    "nodes",
    "server",
    "state",
    "meters",
    "tree",
    "lists",
    "calls",
    "charts",
    "dialogs",
    "live",
    "main",
)


@cache
def html() -> str:
    """Give the whole page: it asks for nothing but the API, relative to its own address."""
    page = _source("page.html")
    page = page.replace("<style></style>", f"<style>{_style()}</style>")
    return page.replace("<script></script>", f"<script>{_script()}</script>")


@cache
def policy() -> str:
    """Give the page's `Content-Security-Policy`: its script and style by their hashes."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(_script())}",
            f"style-src {_hash(_style())}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )


@cache
def _script() -> str:
    parts = "\n".join(_source(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


@cache
def _style() -> str:
    return _source("page.css")


def _source(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
