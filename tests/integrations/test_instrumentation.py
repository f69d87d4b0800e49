"""`instrument()`: all clients of a process, each when the program first imports it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import budgetware_integrations
from budgetware.errors import ConfigurationError
from budgetware_integrations import _instrumentation as own  # pyright: ignore[reportPrivateUsage]
from budgetware_integrations import instrument
from budgetware_integrations._requirements import MissingFramework
from tests.cli.command_line import environment
from tests.integrations.provider import Provider

NEEDS = "openai"
LATE = """
import sys
from budgetware import task_budget
from budgetware_integrations import instrument, uninstrument
instrument(); instrument()
assert not {"openai", "anthropic", "litellm", "google.genai"} & set(sys.modules)
import openai
assert not {"anthropic", "litellm", "google.genai"} & set(sys.modules)
client = openai.OpenAI(max_retries=0)
def call():
    client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
with task_budget(calls=9) as task:
    call()
    print(task.snapshot()["calls"].spent)
    uninstrument(); uninstrument()
    call()
    print(task.snapshot()["calls"].spent)
    instrument(default_output_tokens=5)
    call()
    print(task.snapshot()["calls"].spent)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
        del sys.modules[name]
    import openai
    client = openai.OpenAI(max_retries=0)
    call()
    print(task.snapshot()["calls"].spent)
"""


def test_a_client_pays_from_when_it_is_imported(provider: Provider) -> None:
    given = {"OPENAI_BASE_URL": f"{provider.url}/v1", "OPENAI_API_KEY": "none"}
    found = subprocess.run(
        [sys.executable, "-c", LATE],
        env=environment(**given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stderr, found.stdout) == ("", "1\n1\n2\n3\n")
    assert len(provider.calls) == 4


def test_an_unknown_name_is_told_of_with_all_there_are() -> None:
    with pytest.raises(ConfigurationError, match="openai, anthropic, google_genai, litellm"):
        instrument("openai", "opanai")


def test_one_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(own.CLIENTS, "google_genai", "no_such_package.genai")
    with pytest.raises(MissingFramework, match=r"pip install 'budgetware\[google-genai\]'"):
        instrument("google_genai")


def test_names_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception): ...

    def see(name: str, _call: object, **_options: object) -> Any:
        raise Seen(name)

    monkeypatch.setattr(own, "when_imported", see)
    with pytest.raises(Seen, match=r"^openai$"):
        instrument("openai")


@pytest.mark.parametrize("name", own.CLIENTS)
def test_each_client_has_its_module(name: str) -> None:
    module = Path(own.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    assert "\ndef instrument(" in module
    assert "\ndef uninstrument(" in module


def test_the_package_offers_nothing_else() -> None:
    package: Any = budgetware_integrations
    assert set(package.__all__) == {"instrument", "uninstrument"}
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing
