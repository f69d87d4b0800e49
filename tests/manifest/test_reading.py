"""A manifest as a whole: the example of the contract, files that cannot be read, bad TOML."""

import os
import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from budgetware.errors import ManifestError
from budgetware.kernel.budget import Limit
from budgetware.kernel.dims import MAX_USER_DIMS, is_declared
from budgetware.manifest import Manifest, Problem, check_manifest, parse_manifest, read_manifest
from budgetware.policies import Reject, Terminate, Throttle
from budgetware.quotas import Capacity, Concurrency, PrincipalDefinition, Rate, Resource
from tests.manifest.complaints import complaint, complaints

EXAMPLE = """
# budgetware.toml
ledger = "sqlite:///budgetware.db"          # default: memory://
dimensions = ["gpu_seconds"]

[resources.openai-tokens]
limit = { type = "rate", value = 90_000, period = "minute", max = 90_000 }
enforcement = "throttle"                    # throttle | reject | terminate
dim = "tokens"
max_wait = "30s"
unit = "token"
units = "tokens"
parent = "org-tokens"

[resources.org-tokens]
limit = { type = "capacity", value = 50_000_000 }
enforcement = "reject"
dim = "tokens"

[resources.browsers]
limit = { type = "concurrency", value = 4 }
enforcement = "throttle"

[budgets.research]                          # a template for task_budget("research")
tokens = { limit = 50_000, warn = 40_000 }
usd = "0.25"
seconds = 120
policy = "terminate"

[principals.team-search]
[principals.alice]
parent = "team-search"
[principals.alice.quotas]
tokens = { type = "rate", value = 1_000_000, period = "day" }
[principals.ops]
exempt = true
"""


def test_example_of_the_contract_has_its_resources_parents_first() -> None:
    assert parse_manifest(EXAMPLE).resources == (
        Resource("org-tokens", Capacity(50_000_000), Reject(), dim="tokens"),
        Resource(
            "openai-tokens",
            Rate(90_000, "minute", max=90_000),
            Throttle(),
            dim="tokens",
            parent="org-tokens",
            unit="token",
            units="tokens",
            max_wait=30.0,
        ),
        Resource("browsers", Concurrency(4), Throttle()),
    )


def test_example_of_the_contract_has_its_template() -> None:
    template = parse_manifest(EXAMPLE).budgets["research"]
    assert template.limits == {
        "tokens": Limit(50_000, warn=40_000),
        "usd": Decimal("0.25"),
        "seconds": 120,
    }
    assert template.options == {"policy": Terminate()}


def test_example_of_the_contract_has_its_principals() -> None:
    quota = Resource("alice", Rate(1_000_000, "day"), Reject(), dim="tokens")
    assert parse_manifest(EXAMPLE).principals == (
        PrincipalDefinition("team-search"),
        PrincipalDefinition("alice", "team-search", {"tokens": quota}),
        PrincipalDefinition("ops", exempt=True),
    )


def test_example_of_the_contract_has_its_settings() -> None:
    manifest = parse_manifest(EXAMPLE, "budgetware.toml")
    assert manifest.file == "budgetware.toml"
    assert manifest.ledger == "sqlite:///budgetware.db"
    assert manifest.dimensions == ("gpu_seconds",)
    assert is_declared("gpu_seconds")


def test_empty_manifest_is_all_defaults() -> None:
    assert parse_manifest("") == Manifest()
    assert parse_manifest("").ledger == "memory://"


def test_every_problem_is_in_the_one_error() -> None:
    text = "strict = 1\n\n[resource.x]\n[budgets.y]\ntokens = -5\n"
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, "m.toml")
    assert str(caught.value).splitlines() == [
        "m.toml:1: strict: 1 is not a boolean; give true or false, without quotes",
        "m.toml:3: resource: unknown key of a manifest; did you mean 'resources'?",
        (
            "m.toml:5: budgets.y.tokens: -5 is not above 0; "
            "give an int of 1 to 9007199254740991, such as 50_000"
        ),
    ]
    assert (caught.value.file, caught.value.line) == ("m.toml", 1)


def test_error_and_its_problems_survive_pickle() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest("a = 1\nb = 2\n")
    copy: ManifestError = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (copy.file, copy.line) == (None, 1)
    problems: tuple[Problem, ...] = vars(copy)["problems"]
    assert [problem.key for problem in problems] == ["a", "b"]


def test_problems_of_a_text_without_a_file_say_manifest() -> None:
    with pytest.raises(ManifestError, match=r"^<manifest>:1: a: unknown key"):
        parse_manifest("a = 1")


def test_no_more_than_a_hundred_problems_are_listed() -> None:
    found = complaints("".join(f"[budgets.b{i}]\ntokens = 0\nx_{i} = true\n" for i in range(60)))
    assert len(found) == 101
    assert found[-1] == "m.toml: 20 more problems; mend these first"


def test_thousands_of_unknown_keys_and_parents_are_counted_quickly() -> None:
    tables = "".join(f"[principals.p{i}]\nparent = 'q{i}'\nx{i} = 1\n" for i in range(5_000))
    assert complaints(tables)[-1].startswith("m.toml: 9900 more")


def test_nothing_is_declared_where_something_is_wrong() -> None:
    text = """
    dimensions = ["own_listed"]
    [resources.r]
    limit = { type = "capacity", value = 1 }
    dim = "own_counted"
    [budgets.b]
    own_limited = { limit = 5, warn = 4 }
    keep = { own_limited = 5 }
    [principals.p.quotas]
    own_quota = { type = "capacity", value = 1 }
    """
    assert complaint(text).endswith("keep: own_limited=5 must be below the limit")
    names = ("own_listed", "own_counted", "own_limited", "own_quota")
    assert [name for name in names if is_declared(name)] == []


def test_dimensions_are_declared_wherever_they_are_limited() -> None:
    manifest = parse_manifest("""
    dimensions = ["new_listed"]
    [resources.r]
    limit = { type = "capacity", value = 1 }
    dim = "new_counted"
    [budgets.b]
    new_limited = 5
    [principals.p.quotas]
    new_quota = { type = "capacity", value = 1 }
    """)
    names = ("new_listed", "new_counted", "new_limited", "new_quota")
    assert [name for name in names if not is_declared(name)] == []
    assert manifest.resources[0].dim == "new_counted"
    assert manifest.principals[0].quotas["new_quota"].dim == "new_quota"


def test_more_dimensions_than_a_process_may_have_are_refused() -> None:
    names = ", ".join(f"'many_{i}'" for i in range(MAX_USER_DIMS + 1))
    assert f"more than {MAX_USER_DIMS} own dimensions" in complaints(f"dimensions = [{names}]")[0]


def test_file_is_read_by_any_path(tmp_path: Path) -> None:
    path = tmp_path / "budgetware.toml"
    path.write_text(EXAMPLE)
    assert read_manifest(path) == read_manifest(str(path))
    assert read_manifest(path).file == str(path)


def test_file_with_windows_line_ends_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(b"\xef\xbb\xbfstrict = true\r\n\r\nledger = 'memory://'\r\n")
    assert read_manifest(path).strict


@pytest.mark.parametrize("name", ["missing.toml", ".", "null\0byte"])
def test_file_that_cannot_be_read_says_so(tmp_path: Path, name: str) -> None:
    path = os.path.join(tmp_path, name)  # noqa: PTH118 - pathlib refuses nothing here either
    with pytest.raises(ManifestError, match=r"cannot be read: .+; give the path of a manifest"):
        read_manifest(path)


def test_file_name_with_control_characters_is_shown_quoted() -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest("a\x1b[31m.toml")
    assert str(caught.value).startswith("'a\\x1b[31m.toml': cannot be read")


@pytest.mark.parametrize("size", [2**20 + 1, 2**24])
def test_file_above_a_mebibyte_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(size)
    with pytest.raises(ManifestError, match="at most 1048576 bytes") as caught:
        read_manifest(path)
    assert caught.value.line is None


def test_text_above_a_mebibyte_is_refused() -> None:
    assert "is too large" in complaint("#" * (2**20 + 1))


def test_file_of_exactly_a_mebibyte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("#" * 2**20)
    assert check_manifest(path)[1] == ()


def test_file_that_is_not_utf_8_says_where(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(b"strict = true\n# caf\xe9\n")
    with pytest.raises(ManifestError, match=r"m.toml:2: is not UTF-8; save the file in that"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = \n", "m.toml:2: is not TOML: Invalid value at column 5"),
        ("a = 1\na = 2\n", "m.toml:2: is not TOML: Cannot overwrite a value at column 6"),
        ("[a]\n[a]\n", "m.toml:2: is not TOML: Cannot declare ('a',) twice at column 3"),
        ("\na = '''", "m.toml:2: is not TOML: Expected \"'''\" at the end of the file"),
        ("a = '\x1b'", "m.toml:1: is not TOML: Found invalid character '\\x1b' at column 6"),
        ("[" + "a." * 15 + "a" * 999 + "]x", "m.toml:1: is not TOML: Expected newline or end"),
        ("\na = " + "[" * 100_000, "m.toml:2: is nested in more than 16 levels"),
        ("\na = " + "9" * 10_000, "m.toml:2: a value has more than 1000 digits"),
    ],
)
def test_text_that_is_not_toml_says_where(text: str, said: str) -> None:
    assert complaint(text).startswith(said)


def test_message_of_tomllib_without_a_place_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: object, **__: object) -> object:
        raise ValueError("Exceeds the limit (4300 digits)")

    monkeypatch.setattr("tomllib.loads", loads)
    assert complaint("a = 1") == "m.toml: is not TOML: Exceeds the limit (4300 digits)"


def test_long_names_in_messages_are_cut() -> None:
    text = f"['{'a' * 5_000}']\n['{'a' * 5_000}']"
    assert len(complaint(text)) < 300


@pytest.mark.parametrize("key", ['"\\u001b[31m"', '"a.b"', '"\\u202e"', '"a b"', f'"{"k" * 900}"'])
def test_control_characters_of_keys_are_never_shown(key: str) -> None:
    said = complaint(f"{key} = 1")
    assert said.isprintable()
    assert said.startswith("m.toml:1: '")
    assert len(said) < 300
