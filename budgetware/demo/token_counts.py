"""How many tokens a prompt has, known before it is sent, and what the server counted after.

For llama.cpp both come from the server itself: its tokenizer is exact, and its counters are kept
by its own scheduler, not by our client. For a foreign endpoint the bound is the prompt's bytes.
"""

from dataclasses import dataclass

import anyio

from .chat import ChatClient, ChatRequest, Message

# A token of a byte-level vocabulary stands for one byte or more, so bytes bound the tokens. What
# a chat template wraps around each message, and a default system message, is added on top.
TEMPLATE_TOKENS_PER_MESSAGE = 16
TEMPLATE_TOKENS = 48
IDLE_WAIT_SECONDS = 15.0
IDLE_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ServerCount:
    """The model server's own counters, since it started."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        """Prompt (reused from a cache or not) and completion together."""
        return self.prompt_tokens + self.completion_tokens


async def chat_request(
    client: ChatClient, messages: tuple[Message, ...], *, max_tokens: int
) -> ChatRequest:
    """Make a request whose `prompt_tokens` is never less than what the server will count."""
    if client.endpoint.is_llama_cpp:
        prompt_tokens = await _counted_by_server(client, messages)
    else:
        prompt_tokens = bound_by_bytes(messages)
    return ChatRequest(messages, prompt_tokens, max_tokens)


def bound_by_bytes(messages: tuple[Message, ...]) -> int:
    """Bound the tokens of a prompt by its bytes."""
    content = sum(len(message.content.encode()) for message in messages)
    return content + TEMPLATE_TOKENS_PER_MESSAGE * len(messages) + TEMPLATE_TOKENS


async def server_count(client: ChatClient) -> ServerCount | None:
    """Read the server's counters once it is idle; None where the endpoint has no such counters.

    A cancelled request still runs to the end of its batch, so this waits until no request is
    being processed.
    """
    if not client.endpoint.is_llama_cpp:
        return None
    with anyio.move_on_after(IDLE_WAIT_SECONDS):
        while True:
            counters = await _counters(client)
            if _is_idle(counters):
                return _total(counters)
            await anyio.sleep(IDLE_POLL_SECONDS)
    return None


async def _counted_by_server(client: ChatClient, messages: tuple[Message, ...]) -> int:
    root = client.endpoint.root
    asked = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    prompt = (await client.post(f"{root}/apply-template", asked)).json()["prompt"]
    text = {"content": prompt, "add_special": True, "parse_special": True}
    return len((await client.post(f"{root}/tokenize", text)).json()["tokens"])


async def _counters(client: ChatClient) -> dict[str, int]:
    """Read llama.cpp's metrics, in Prometheus' text format."""
    text = (await client.get(f"{client.endpoint.root}/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("llamacpp:"))
    return {name.removeprefix("llamacpp:"): int(float(value)) for name, _, value in lines}


def _total(counters: dict[str, int]) -> ServerCount:
    # Prompt tokens taken from a cache are counted apart, but reported as usage.
    prompt = counters["prompt_tokens_total"] + counters["prompt_tokens_cached_total"]
    return ServerCount(prompt, counters["tokens_predicted_total"])


def _is_idle(counters: dict[str, int]) -> bool:
    return not counters["requests_processing"] and not counters["requests_deferred"]
