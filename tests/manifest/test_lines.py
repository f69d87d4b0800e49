"""Lines of keys, compared with texts whose lines are known, and with what `tomllib` reads."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budgetware.manifest.lines import MAX_DEPTH, Path, find_lines

TRICKY = {
    "keys in one table": ("a = 1\nb = 2\n", {("a",): 1, ("b",): 2}),
    "headers make their parents": (
        "\n[a.b]\nc = 1\n",
        {("a",): 2, ("a", "b"): 2, ("a", "b", "c"): 3},
    ),
    "a header that comes later is where its table stands": (
        "[a.b]\n\n[a]\n",
        {("a",): 3, ("a", "b"): 1},
    ),
    "dotted and quoted keys": (
        'a . "b.c" = 1\n\'d\'.e = 2\n"\\u0041" = 3\n',
        {("a",): 1, ("a", "b.c"): 1, ("d",): 2, ("d", "e"): 2, ("A",): 3},
    ),
    "inline tables": (
        "a = { b = 1, c.d = { e = {} } }\nf = {}\n",
        {
            ("a",): 1,
            ("a", "b"): 1,
            ("a", "c"): 1,
            ("a", "c", "d"): 1,
            ("a", "c", "d", "e"): 1,
            ("f",): 2,
        },
    ),
    "arrays over several lines": (
        "a = [ # ]\n  1, # , 2\n\n  [2.5,\n  3], {x = 1},\n]\nb = [[], []]\n",
        {
            ("a",): 1,
            ("a", 0): 2,
            ("a", 1): 4,
            ("a", 1, 0): 4,
            ("a", 1, 1): 5,
            ("a", 2): 5,
            ("a", 2, "x"): 5,
            ("b",): 7,
            ("b", 0): 7,
            ("b", 1): 7,
        },
    ),
    "arrays of tables": (
        "[[a]]\nb = 1\n[[a]]\n[a.c]\n[[a.d]]\n",
        {
            ("a",): 1,
            ("a", 0): 1,
            ("a", 0, "b"): 2,
            ("a", 1): 3,
            ("a", 1, "c"): 4,
            ("a", 1, "d"): 5,
            ("a", 1, "d", 0): 5,
        },
    ),
    "multi-line strings": (
        'a = """\nx = 1\n\\""" "" [b]\n"""""\nb = \'\'\'\ny = 2\n\'\' \'\'\'\'\nc = 1\n',
        {("a",): 1, ("b",): 5, ("c",): 8},
    ),
    "strings that look like syntax": (
        'a = "# = [ { \\" "\nb = \'# \\\'\nc = ""\nd = 1\n',
        {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4},
    ),
    "dates and numbers": (
        "a = 1979-05-27 07:32:00.5-07:00\nb = -1_0.5e+3 # c = 1\nc = +inf",
        {("a",): 1, ("b",): 2, ("c",): 3},
    ),
    "windows line ends": ("a = 1\n\n\nb = 2\n", {("a",): 1, ("b",): 4}),
}


@pytest.mark.parametrize("case", TRICKY)
def test_every_key_has_its_line(case: str) -> None:
    text, lines = TRICKY[case]
    assert find_lines(text).of == lines
    assert set(paths_of(tomllib.loads(text))) == set(lines)


def test_inline_tables_of_several_lines_are_followed_where_toml_allows_them() -> None:
    lines = find_lines("a = {\n  b = 1, # one\n  c = 2,\n}\nd = 3\n").of
    assert lines == {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("d",): 5}


def test_what_has_no_line_has_that_of_what_is_around_it() -> None:
    lines = find_lines("[a]\n[a.b]\n")
    assert lines.nearest(("a", "b", "c", 7)) == 2
    assert lines.nearest(("x", "y")) is None


@pytest.mark.parametrize(
    "text",
    [
        "]",
        "= 1",
        "a b\n= 1",
        "a = = 1",
        "a = 1 = 2\nb = 1",
        "a = ]",
        "a = \n",
        "a = 1 ]",
        "a = [1 {",
        'a = {"""x""" = 1}',
        '"\\q" = 1',
        "[a] b",
        "[a = 1",
        "[]",
        "[[[a]]]",
        'a = "x',
        'a = """x',
        "\0",
    ],
)
def test_text_that_is_no_toml_is_followed_as_far_as_it_goes(text: str) -> None:
    assert set(find_lines(text).of) <= {("a",), ("a", 0)}


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\nb = " + "[" * 100_000,
        "a = 1\nb = " + "{x = " * 100_000,
        "a = 1\nb" + ".b" * 100_000,
        "a = 1\n[b" + ".b" * 100_000,
        f"[a{'.a' * 9}]\nb{'.b' * 9} = 1",
        "a = 1\nb = {x" + ".b" * MAX_DEPTH + " = 1}",
    ],
)
def test_deep_nesting_ends_it(text: str) -> None:
    assert find_lines(text).too_deep == 2


def test_arrays_of_tables_count_as_levels_too() -> None:
    headers = [f"[[{'.'.join(['a'] * depth)}]]" for depth in range(1, 10)]
    assert find_lines("\n".join(headers)).too_deep == 9


def test_long_numbers_end_it() -> None:
    assert find_lines("a = [\n" + "1" * 1_001 + "]").too_long == 2


@pytest.mark.parametrize("start", ['a = """', "a = '''", 'a = "', 'a = """\\"""'])
def test_strings_that_do_not_end_cost_no_more_than_their_length(start: str) -> None:
    text = start + '\\"""' * 250_000
    assert set(find_lines(text).of) == {("a",)}


def paths_of(value: object, path: Path = ()) -> Iterator[Path]:
    """Every key and element of what `tomllib` returned."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from paths_of(inner, (*path, index))


SCALARS = [
    "1",
    "-1_000.5e3",
    "0x1F",
    "true",
    "nan",
    "1979-05-27 07:32:00",
    "07:32:00.5",
    '"# a = [1] { \\" \\\\"',
    "'# \\'",
    '"""\n"a" = 1\n[b]\n\\""" ""\\\n  """',
    '""""a"""""',
    "'''\n'c' = 1\n''''",
    '""',
    "''",
]
KEYS = ["a", "b-c", "1", "x y", "é", '"', "'", ".", "", "a.b", "\n", "#", "[", "1979-05-27"]
SPACES = st.sampled_from(["", " ", "\t"])
GAPS = st.sampled_from(["", " ", "\n", " # ] }\n\n", "\n\n  "])
VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)
DOCUMENTS: st.SearchStrategy[Any] = st.dictionaries(st.sampled_from(KEYS), VALUES)
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Writer:
    """Write a document in one of many styles, and note on which line everything lands."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Path, int] = {}

    def note(self, path: Path) -> None:
        self.lines[path] = self.text.count("\n") + 1

    def space(self) -> None:
        self.text += self.draw(SPACES)

    def end_line(self) -> None:
        self.text += self.draw(st.sampled_from(["\n", " # x = [\n", "\t\n\n"]))

    def key(self, name: str) -> None:
        styles = [json.dumps(name)]
        if re.fullmatch(r"[A-Za-z0-9_-]+", name):
            styles.append(name)
        if not {"'", "\n"} & set(name):
            styles.append(f"'{name}'")
        self.text += self.draw(st.sampled_from(styles))

    def value(self, path: Path, value: Any) -> None:
        if isinstance(value, str):
            self.text += value
        elif isinstance(value, dict):
            self.inline_table(path, cast("dict[str, object]", value))
        else:
            self.array(path, cast("list[object]", value))

    def array(self, path: Path, values: list[object]) -> None:
        self.text += "["
        for index, inner in enumerate(values):
            self.text += self.draw(GAPS)
            self.note((*path, index))
            self.value((*path, index), inner)
            self.text += self.draw(GAPS)
            self.text += "," if index < len(values) - 1 or self.draw(st.booleans()) else ""
        self.text += self.draw(GAPS) + "]"

    def inline_table(self, path: Path, values: dict[str, object]) -> None:
        self.text += "{"
        for number, (name, inner) in enumerate(values.items()):
            self.text += ", " if number else " "
            self.assignment(path, name, inner)
        self.text += " }"

    def assignment(self, path: Path, name: str, value: object) -> None:
        path = (*path, name)
        self.note(path)
        self.key(name)
        if isinstance(value, dict) and len(cast("dict[str, object]", value)) == 1:
            self.space()
            self.text += "."
            self.space()
            ((name, inner),) = cast("dict[str, object]", value).items()
            self.assignment(path, name, inner)
            return
        self.text += " = "
        self.value(path, value)

    def header(self, path: Path, marks: str) -> None:
        self.text += marks
        names = [part for part in path if isinstance(part, str)]
        for number, name in enumerate(names):
            self.text += "." if number else ""
            self.space()
            self.key(name)
            self.space()
        self.text += marks.replace("[", "]")
        self.end_line()

    def table(self, path: Path, values: dict[str, object]) -> None:
        with_headers = {
            name: inner
            for name, inner in values.items()
            if is_tables(inner) and self.draw(st.booleans())
        }
        for name, inner in values.items():
            if name not in with_headers:
                self.space()
                self.assignment(path, name, inner)
                self.end_line()
        for name, inner in with_headers.items():
            self.tables((*path, name), inner)

    def tables(self, path: Path, value: Any) -> None:
        self.note(path)
        if isinstance(value, dict):
            self.header(path, "[")
            self.table(path, cast("dict[str, object]", value))
            return
        for index, inner in enumerate(cast("list[dict[str, object]]", value)):
            self.note((*path, index))
            self.header(path, "[[")
            self.table((*path, index), inner)


def is_tables(value: object) -> bool:
    if isinstance(value, list):
        inner = cast("list[object]", value)
        return bool(inner) and all(isinstance(element, dict) for element in inner)
    return isinstance(value, dict)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_documents_have_the_lines_they_were_written_on(data: st.DataObject) -> None:
    writer = Writer(data.draw)
    writer.table((), data.draw(DOCUMENTS))
    found = find_lines(writer.text)
    assert set(paths_of(tomllib.loads(writer.text))) == set(writer.lines)
    assert found.of == writer.lines


PIECES = ["[", "]", "{", "}", "=", ".", ",", '"', "'", "\\", "\n", " ", "#", "a", "b", "1", '"""']


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_whatever_tomllib_accepts_is_followed_to_the_end(text: str) -> None:
    found = find_lines(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(found.of) == set(paths_of(data))
