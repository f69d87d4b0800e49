"""A provider on loopback that speaks the protocols of OpenAI, Anthropic and Gemini.

`serve()` starts one in a thread of its own, so that it serves sync code and any event loop. It
counts what reaches it and what it bills. What a model does is in its name:

- `echo`: answers; its usage follows from the prompt.
- `tool:NAME:JSON`: asks for that tool, then answers; `loop:NAME:JSON` asks for it for ever.
- `fail:STATUS`: answers with that error; `fail:STATUS:N` the first N times, then it answers.
- `hold`: answers when `released` is set; `pause`: stops after its first word until then.
- `cut`: ends the connection after its first word (streams), or before any.
- `mute`: never reports usage; `absurd`: reports nonsense as usage.
"""

from .server import Call, Provider, serve

__all__ = ["Call", "Provider", "serve"]
