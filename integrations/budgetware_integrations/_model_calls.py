"""One model call, from its estimate to what it used: what all adapters of models are built on.

Adapters may lie in one another, as a framework's over a wrapped client: the outermost one
holds, and those inside it let the call pass. Of the requests that clients send meanwhile it pays
for one, and for further attempts at that; the others, as those of a model that asks several, hold
for themselves, and so does all that stands in a task of its own. Not here: what a call is in each
SDK.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from budgetware import BudgetwareError, Reservation, Usage, reserve
from budgetware.frames import current

from ._billing import Billing, pause_of_error
from ._options import CallSettings
from ._signals import pause_seconds

T = TypeVar("T")

LONGEST_CALL: Final = "2h"
"""When a stream that nobody reads or closes is taken as abandoned, and charged."""

COPY: Final = object()
"""A request of which there is only a copy."""

_log = logging.getLogger("budgetware.integrations")
_current: ContextVar[ModelCall | None] = ContextVar("budgetware_model_call", default=None)


def current_call() -> ModelCall | None:
    """The model call that this code runs inside of, and that pays for what it does.

    One that has ended does not, nor where another task, token or principal is to pay by now.
    """
    call = _current.get()
    return call if call is not None and call.is_open and call.stands is current.get(None) else None


@contextmanager
def outside() -> Generator[None]:
    """Have adapters inside this block hold again: it is no part of the call, as a tool it runs."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def passing(request: object) -> Generator[None]:
    """Let a request pass that the call around it has taken in, if there is one."""
    outer = current_call()
    try:
        yield
    except BaseException:
        if outer is not None:
            outer.gives_back(request)
        raise


class ModelCall:
    """One logical model call: held by `start`, ended once by `end`.

    It holds one call, and the tokens of its prompt and of the longest answer, by `tokens`,
    `input_tokens` and `output_tokens`; a model also has its price held, where `usd` is limited.

    Args:
        settings: how calls are held.
        provider: such as `openai`; for spans, events and prices.
        model: as it is asked for.
        prompt: what is sent, to be counted; None: nothing that costs tokens.
        output_tokens: the longest answer that is allowed; None: the default of the settings.
        answers: how many of them are asked for.
        kind: `llm` or `embeddings`; an embedding writes no tokens.
        name: of the operation, such as `chat`.
        alone: no call around it pays for it.
    """

    __slots__ = (
        "_amounts", "_is_output_known", "_reservation", "_usage", "heard", "is_broken", "is_final",
        "billing", "inner", "is_nested", "kind", "model", "name", "provider", "settings", "stands",
    )  # fmt: skip

    def __init__(
        self,
        settings: CallSettings,
        *,
        provider: str,
        model: str | None,
        prompt: object,
        output_tokens: object = None,
        answers: object = 1,
        kind: str = "llm",
        name: str | None = None,
        alone: bool = False,
    ) -> None:
        self.settings = settings
        self.provider = provider
        self.model = model if isinstance(model, str) else None
        self.kind = kind
        self.name = name or ("chat" if kind == "llm" else kind)
        self.is_nested = not alone and current_call() is not None
        self.stands = current.get(None)
        self._amounts: dict[str, Any] = {}
        self._reservation: Reservation | None = None
        self._usage: Usage | None = None
        self.is_final = False
        self.is_broken = False
        """The provider told of an error in the stream of its answer."""
        self.billing = Billing()
        self.inner: object = None
        """The request of a client inside that it pays for, as others hold by themselves."""
        self.heard: Any = None
        """The last response of an HTTP client, where an adapter hears of them."""
        self._is_output_known = True
        if not self.is_nested:
            self._amounts = self._estimate(prompt, output_tokens, answers)

    def _estimate(self, prompt: object, output: object, answers: object) -> dict[str, Any]:
        tokens_in = 0 if prompt is None else self.settings.count(prompt)
        tokens_out = 0
        if self.kind != "embeddings":
            most = _positive(output) or self.settings.default_output_tokens
            tokens_out = most * (_positive(answers) or 1)
        return {
            "calls": 1,
            "tokens": tokens_in + tokens_out,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
        }

    @property
    def is_open(self) -> bool:
        """Whether it holds something now."""
        return self._reservation is not None

    def _make(self) -> Reservation:
        settings = self.settings
        return reserve(
            policy=settings.policy,
            max_wait=settings.max_wait,
            on_error=self.billing,
            kind=self.kind,
            name=self.name,
            model=self.model,
            provider=self.provider,
            expires_in=LONGEST_CALL,
            **self._amounts,
        )

    def takes_in(self, request: object) -> bool:
        """Say whether it pays for a request inside: for one, unless that has failed.

        Args:
            request: an object that tells it from others; `COPY` where there is only a copy of it,
                which is of the one that was taken in before, if one was.
        """
        if self.inner is None:
            self.inner = request
            return True
        return self.inner is not COPY if request is COPY else self.inner is request

    def gives_back(self, request: object) -> None:
        """That request has failed: it pays for the next one, as for another attempt."""
        if self.inner is request:
            self.inner = None

    async def start(self) -> None:
        """Hold, waiting where a payer throttles; raises as `reserve` does, holding nothing."""
        if not self.is_nested:
            self._reservation = await self._make()

    def start_sync(self) -> None:
        """Do the same in sync code, which blocks its thread."""
        if not self.is_nested:
            self._reservation = self._make().wait()

    @contextmanager
    def inside(self) -> Generator[None]:
        """Let adapters inside this block pass their calls: this one pays for them.

        Never across a `yield` of a generator that somebody else drives.
        """
        if self.is_nested:
            yield
            return
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def note(self, reported: object, *, final: bool = False, output: bool = True) -> None:
        """Take in a report of what was used so far; one that cannot be read says nothing.

        Args:
            reported: a response, chunk, event or usage of any provider.
            final: there is no more to come, whatever happens to the stream.
            output: it tells of the answer, too, and not of the prompt alone.
        """
        if self._reservation is None:
            return
        usage = read_usage(reported)
        if usage is None:
            return
        self._usage = usage if self._usage is None else self._usage.highest(usage)
        self.is_final = self.is_final or final
        self._is_output_known = output
        if not self.is_final:  # known from now on to whatever ends the call, a finalizer too
            self._book(self._reservation.record, self._used())

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        """Settle: to the usage that was noted, else as `reserve` says of calls that end so.

        Does nothing the second time. Usage that was not reported is unknown: what is held stands.

        Args:
            error: what cut it short; a `GeneratorExit` where the consumer stopped early.
            broken: the provider failed after its first item.
        """
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        seconds = 0.0 if error is None else pause_of_error(error)
        if seconds > 0:
            reservation.pause(seconds)
        used = self._used()
        if isinstance(error, GeneratorExit) or (error is not None and not self.is_final):
            if used is not None and self.is_final:
                self._book(reservation.record, used)  # takes no lock: it may be a finalizer
            reservation.cut(error, broken=broken)
        elif used is not None:
            self._book(reservation.commit, used)
        else:
            with reservation:
                pass

    def release(self) -> None:
        """Give it all back: no provider was asked, as where a cache had the answer."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    def _used(self) -> Usage | dict[str, int] | None:
        """What is known: a direction that nobody told of stays as it is held."""
        usage = self._usage
        if usage is None or self._is_output_known:
            return usage
        tokens_in, tokens_out = usage.amounts()["input_tokens"], self._amounts["output_tokens"]
        return {
            "tokens": tokens_in + tokens_out,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
        }

    @staticmethod
    def _book(settle: Callable[[Any], object], used: object) -> None:
        """Book it; what cannot be, such as the price of a model nobody knows, stays as held."""
        try:
            settle(used)
        except BudgetwareError as error:
            _log.warning("usage of a model call was not booked: %s", error)

    def signal(self, status: int, headers: Mapping[str, str]) -> None:
        """Slow down the resources that this call draws on, where the provider asks for it."""
        seconds = pause_seconds(status, headers)
        if seconds > 0 and self._reservation is not None:
            self._reservation.pause(seconds)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Hold, await `call`, and settle to the usage that its result reports."""
        await self.start()
        try:
            with self.inside():
                result = await call()
        except BaseException as error:
            self.end(error)
            raise
        self.note(result, final=True)
        self.end()
        return result

    def run_sync(self, call: Callable[[], T]) -> T:
        """Do the same in sync code."""
        self.start_sync()
        try:
            with self.inside():
                result = call()
        except BaseException as error:
            self.end(error)
            raise
        self.note(result, final=True)
        self.end()
        return result


def read_usage(reported: object) -> Usage | None:
    """Return the usage in what a provider has reported; None where there is none, or nonsense.

    A usage of no tokens at all is none: adapters and servers write zeros for what they do not know.
    """
    try:
        usage = Usage.of(reported)
    except BudgetwareError:
        return None
    return usage if usage.total_tokens > 0 else None


def _positive(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
