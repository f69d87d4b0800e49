"""The HTTP face of a service: an ASGI application to serve, or to mount in one's own.

Its libraries come with the extra `admin`. Not here: what the operations do (`budgetware.service`),
nor the command that serves it (`budgetware.cli`).
"""

import importlib.util

if importlib.util.find_spec("starlette") is None:
    raise ImportError('budgetware.admin needs Starlette: pip install "budgetware[admin]"')

from .application import app
from .failures import budget_response
from .keys import Key, Keys, read_admin_keys

__all__ = ["Key", "Keys", "app", "budget_response", "read_admin_keys"]
