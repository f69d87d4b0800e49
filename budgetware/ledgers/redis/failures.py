"""What an error of redis-py or of the server means for a ledger. Not here: retrying."""

from __future__ import annotations

from ...errors import BudgetwareError, ConfigurationError, LedgerUnavailable

# The classes of redis-py that have taken the code off the message, in versions that do not keep it.
CODES = {
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "AuthorizationError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "AskError": "ASK",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
ADVICE = {
    "BUSY": "a script of somebody else runs for too long there",
    "CLUSTERDOWN": "the cluster has no node for its keys",
    "LOADING": "it reads its data from disk",
    "MASTERDOWN": "it is a replica without its master",
    "MISCONF": "it cannot write to its disk",
    "OOM": "its memory is full",
    "READONLY": "it is a replica, which takes no writes",
    "TRYAGAIN": "the keys are being moved to another node",
    "ASK": "the keys are being moved to another node",
}
WRONG = {"WRONGPASS", "NOAUTH", "NOPERM", "WRONGTYPE"}
LONGEST = 200
AWAY = {"ConnectionError", "TimeoutError"}


def code_of(error: BaseException) -> str:
    """The first word of what the server answered, such as `NOSCRIPT`; `""`: it did not."""
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code and code != "ERR":
        return code
    name = type(error).__name__
    if name in CODES:
        return CODES[name]
    for word in str(error).split(" ", 1)[:1]:
        if word.isupper() and word.isalpha() and word != "ERR":
            return word
    return ""


def failure(
    error: BaseException, where: object, password: str | None, *, is_first: bool
) -> BudgetwareError:
    """The error to raise instead.

    Args:
        is_first: whether it has never worked, so that it may be the program that is wrong. Later
            on a server is never more than unavailable.
    """
    code = code_of(error)
    said = "".join(char for char in str(error) if char.isprintable())[:LONGEST]
    if password:
        said = said.replace(password, "***")
    if is_first and (code in WRONG or _is_wrong(said)):
        return ConfigurationError(f"the ledger at {where} does not take us: {code} {said}".strip())
    advice = ADVICE.get(code)
    reason = f"{advice} ({code} {said})" if advice else f"{type(error).__name__}: {said}"
    if not code and type(error).__name__ in AWAY:
        reason = (
            f"{reason.rstrip('.')}: see whether it runs there, and whether the address is right"
        )
    return LedgerUnavailable(f"the ledger at {where} did not take it: {reason}")


def _is_wrong(said: str) -> bool:
    text = said.lower()
    return any(
        words in text
        for words in (
            "db index is out of range",
            "select is not allowed in cluster",
            "without any password",
            "no password is set",
            "unknown command",
            "wrong version number",
            "certificate verify failed",
        )
    )
