"""What a model of the provider does, read off its name, and what its calls cost."""

import json
import re
from dataclasses import dataclass
from typing import Any

WORDS = ("Rivers", " flow", " to", " the", " sea", ".")
ANSWER = "".join(WORDS)
CACHED = 3
REASONING = 2


@dataclass(frozen=True)
class Tokens:
    """What one call costs; of `prompt`, 3 are cached; of `completion`, 2 are reasoning."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True)
class Behaviour:
    """One model's ways, for one call."""

    model: str
    word: str
    tool: tuple[str, Any] | None
    status: int
    tokens: Tokens

    @property
    def reports(self) -> bool:
        return self.word != "mute"

    @property
    def is_absurd(self) -> bool:
        return self.word == "absurd"

    def usage(self, usage: dict[str, Any]) -> dict[str, Any] | None:
        """What is reported in place of a usage."""
        if not self.reports:
            return None
        if self.is_absurd:
            return {key: "many" if i % 2 else -7 for i, key in enumerate(usage)}
        return usage


def tokens_of(body: dict[str, Any]) -> Tokens:
    """A prompt costs its words, and the answer differs from prompt to prompt, too."""
    asked = {key: body[key] for key in ("messages", "input", "contents", "system") if key in body}
    words = len(re.findall(r"\w+", json.dumps(asked)))
    return Tokens(CACHED + words, len(WORDS) + REASONING + words % 5)


def behaviour_of(model: str, body: dict[str, Any], failures: dict[str, int]) -> Behaviour:
    """Read a model's name; counts those that fail so many times."""
    word, _, rest = model.partition(":")
    tool: tuple[str, Any] | None = None
    status = 200
    if word == "loop" or (word == "tool" and not _has_result(body)):
        name, _, arguments = rest.partition(":")
        tool = (name, json.loads(arguments or "{}"))
    if word == "fail":
        code, _, times = rest.partition(":")
        failures[model] = failures.get(model, 0) + 1
        if not times or failures[model] <= int(times):
            status = int(code)
    return Behaviour(model, word, tool, status, tokens_of(body))


def _has_result(body: dict[str, Any]) -> bool:
    text = json.dumps(body)
    results = (
        '"role": "tool"',
        '"tool_result"',
        '"function_call_output"',
        '"functionResponse"',
        '"function_response"',
    )
    return any(result in text for result in results)
