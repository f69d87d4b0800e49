"""Who is let in: the key of a request, and what it may see. Not here: the keys themselves."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import Request

from ..service import QuotaService
from .failures import Failure, forbidden
from .keys import Caller, Keys
from .operations import Access
from .sight import Sight

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
ANYBODY = Caller(None, can_write=False)
OWNER = Caller(None, can_write=True)


class DoorKeeper:
    """Knows the keys; where there are none, those on this machine may do everything."""

    def __init__(self, service: QuotaService, keys: Keys | None) -> None:
        self._service = service
        self._keys = keys

    @property
    def has_keys(self) -> bool:
        """Whether a request needs a key."""
        return self._keys is not None

    def caller(self, request: Request, access: Access) -> Caller:
        """Who asks, if that may; raises `Failure`: 401 or 403."""
        if access == "open":
            return ANYBODY
        caller = self._without_key(request) if self._keys is None else self._by_key(request)
        if access == "write" and not caller.can_write:
            raise forbidden("this key may read only")
        return caller

    def _by_key(self, request: Request) -> Caller:
        assert self._keys is not None
        given = [v for k, v in request.headers.raw if k.lower() == b"authorization"]
        if len(given) != 1:
            raise unauthorized("send a key: Authorization: Bearer …")
        scheme, _, secret = given[0].partition(b" ")
        caller = self._keys.caller(secret.strip())
        if scheme.lower() != b"bearer" or caller is None:
            raise unauthorized("this is no key", 'Bearer error="invalid_token"')
        return caller

    def _without_key(self, request: Request) -> Caller:
        """Whoever is on this machine, and not behind a proxy."""
        ends = (request.scope.get("client"), request.scope.get("server"))
        is_here = all(end is None or _is_loopback(str(end[0])) for end in ends)
        if not is_here or any(name in request.headers for name in _FORWARDED):
            raise unauthorized("there are no keys here: only this machine itself is served")
        return OWNER

    def sight(self, caller: Caller, principal: str | None = None) -> Sight:
        """What a caller may see; of that, what is a principal's, if one is given.

        Raises:
            Failure: 403, it may not see that one.
        """
        known = self._service.runtime.principals
        mine = Sight(caller.principal, known)
        if principal is None:
            return mine
        if not mine.sees(principal):
            raise forbidden("this key is for another principal")
        return Sight(principal, known)

    def check_sees_all(self, caller: Caller) -> None:
        """Raise `Failure` where a key is for one principal, and this is everybody's."""
        if caller.principal is not None:
            raise forbidden("this key is for one principal, and this is shared by all")


def unauthorized(message: str, challenge: str = "Bearer") -> Failure:
    """A key is missing, or is none."""
    return Failure(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge})


def _is_loopback(host: str) -> bool:
    """Whether an end of a connection is this machine; one that is no address is no network."""
    try:
        address = ip_address(host)
    except ValueError:
        return True
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
