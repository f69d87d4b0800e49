"""The shape of the package: which way imports point, what stays pure, what is public, how long."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import budgetware
from budgetware import errors

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "budgetware"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "integrations").rglob("*.py")])
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
ASYNC = ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
TOP = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}

# A module may import from its own layer and those above it in this list. A new one is placed here.
LAYERS = [
    ["kernel", "errors"],
    ["private_files"],
    [
        "accounts",
        "clock",
        "generators",
        "ids",
        "imports",
        "loops",
        "measures",
        "token_keys",
        "token_texts",
    ],
    ["usage", "usage_fields", "usage_shapes", "pricing", "events", "formats", "policies"],
    ["ledgers"],
    ["quotas", "definitions", "resources", "stakes", "principals", "shared_principals"],
    ["usage_sums"],
    ["memory_records", "recording", "shared_nodes"],
    ["telemetry"],
    ["calls", "runtime", "frames", "holding", "settlement", "tallies", "termination"],
    ["outcomes", "admission", "amounts", "holds", "scopes"],
    [
        "requests",
        "bindings",
        "borders",
        "exports",
        "inheritance",
        "shared_tasks",
        "statements",
        "streams",
    ],
    ["expiries", "idempotency", "limits", "pauses", "quick", "sessions"],
    [
        "confirming",
        "finishing",
        "nowait",
        "placing",
        "plans",
        "task_functions",
        "tasks",
        "reservations",
        "charges",
    ],
    ["budgets", "propagation", "quota_tokens"],
    ["sites"],
    ["retry", "decorators", "process"],
    ["manifest", "views"],
    ["reports"],
    ["counters", "foreign_tasks", "service_life"],
    ["task_views"],
    ["service"],
    ["connecting"],
    ["testing"],
    ["__init__"],
    ["demo"],
    ["admin"],
    ["cli"],
    ["__main__"],
]
LAYER_OF = {module: depth for depth, layer in enumerate(LAYERS) for module in layer}

IMPURE = set("anyio asyncio logging opentelemetry os random threading time trio".split())
LATE = set(
    """
    genai_prices httpx opentelemetry.sdk redis rich sqlite3 starlette tenacity trio typer uvicorn
    """.split()
)

PUBLIC = set(
    """
    Budget BudgetExceeded BudgetTerminated BudgetwareError Capacity Concurrency Dim Limit
    QuotaExceeded QuotaService QuotaToken Rate Reject Reservation Resource TaskBudget Terminate
    Throttle Usage UsageEvent UsageReport Verdict budgeted charge connect current_budget principal
    reserve reserve_nowait task_budget
    """.split()
)
UNDONE = re.compile(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b")
DRAWN = re.compile(r"^([ │├└─]*)([A-Z]\w+)(?:\((\w+)\))?(?:$| {2,})", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes_of(path: Path) -> Iterator[ast.AST]:
    """Every node of the file that runs: what is imported for types alone decides nothing."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(child for child in ast.iter_child_nodes(node) if not is_for_types(child))


def imports_of(path: Path) -> Iterator[str]:
    """Every dotted name the file imports, wherever in it: `from a import b` is `a.b`."""
    package = path.relative_to(ROOT).parent.parts
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*origin, alias.name]) for alias in node.names)


def roots_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def own_imports_of(path: Path) -> set[str]:
    """The package's modules the file imports, by the names of `LAYERS`."""
    names = [name.split(".") for name in imports_of(path)]
    own = {[*parts, "__init__"][1] for parts in names if parts[0] == "budgetware"}
    return {name if name in TOP else "__init__" for name in own}


def lengths_of(path: Path) -> dict[str, int]:
    functions = [node for node in nodes_of(path) if isinstance(node, FUNCTION)]
    return {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_in_the_table_of_layers(path: Path) -> None:
    assert module_of(path) in LAYER_OF


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    below = {name for layer in LAYERS[LAYER_OF[module_of(path)] + 1 :] for name in layer}
    assert own_imports_of(path) & below == set()


def test_imports_make_no_circle() -> None:
    imports = {module: set[str]() for module in TOP}
    for path in MODULES:
        imports[module_of(path)] |= own_imports_of(path) - {module_of(path)}
    assert set(TopologicalSorter(imports).static_order()) == TOP


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernel").rglob("*.py")), ids=name_of)
def test_kernel_is_pure(path: Path) -> None:
    assert IMPURE & roots_of(path) == set()
    assert [node for node in nodes_of(path) if isinstance(node, ASYNC)] == []


@pytest.mark.parametrize("path", [p for p in MODULES if module_of(p) != "telemetry"], ids=name_of)
def test_only_telemetry_imports_opentelemetry(path: Path) -> None:
    assert "opentelemetry" not in roots_of(path)


def test_import_loads_nothing_that_is_optional_or_late() -> None:
    program = f"import sys, budgetware; print(sorted({LATE!r} & set(sys.modules)))"
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_those_of_the_contract() -> None:
    names = set(budgetware.__all__)
    assert len(names) == len(budgetware.__all__)
    assert names <= PUBLIC
    assert names >= PUBLIC


def test_all_lists_exactly_what_the_package_offers() -> None:
    offered = {name for name in dir(budgetware) if not name.startswith("_")}
    objects = {name for name in offered if not isinstance(getattr(budgetware, name), ModuleType)}
    assert objects == set(budgetware.__all__)


def undocumented(name: str) -> list[str]:
    thing = getattr(budgetware, name)
    members = inspect.getmembers(thing, is_code) if isinstance(thing, type) else []
    public = [(member, code) for member, code in members if not member.startswith("_")]
    named = [(name, thing), *((f"{name}.{member}", code) for member, code in public)]
    return [label for label, code in named if not inspect.getdoc(code)]


def is_code(member: object) -> bool:
    return inspect.isfunction(member) or inspect.ismethod(member) or isinstance(member, property)


@pytest.mark.parametrize("name", budgetware.__all__)
def test_public_name_has_a_docstring(name: str) -> None:
    assert undocumented(name) == []


def drawn_errors() -> dict[str, list[str]]:
    """Each error drawn in the docstring of `errors`, with its bases: the last less indented."""
    bases: dict[str, list[str]] = {}
    above: list[tuple[int, str]] = []
    for indent, name, second in DRAWN.findall(errors.__doc__ or ""):
        above = [(width, parent) for width, parent in above if width < len(indent)]
        bases[name] = [parent for _, parent in above[-1:]] + [second] * bool(second)
        above.append((len(indent), name))
    return bases


def test_error_tree_is_drawn_as_it_is() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    own = [cls for cls in classes if issubclass(cls, errors.BudgetwareError)]
    assert drawn_errors() == {
        cls.__name__: [base.__name__ for base in cls.__bases__] for cls in own
    }


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_short(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    assert {name: length for name, length in lengths_of(path).items() if length > 70} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_undone(path: Path) -> None:
    assert UNDONE.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
