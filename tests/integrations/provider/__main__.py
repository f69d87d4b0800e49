"""Serve until standard input ends; the first line of output is the URL."""

import sys

from . import serve

with serve() as provider:
    print(provider.url, flush=True)
    sys.stdin.read()
