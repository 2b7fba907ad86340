"""The public surface: complete, documented, typed, and cheap to import."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import laminar
from laminar import errors

HEAVY = (
    "aiohttp",
    "anyio",
    "msgpack",
    "numpy",
    "polars",
    "polars_hash",
    "prometheus_client",
    "pyarrow",
)


@pytest.mark.parametrize("name", laminar.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    value = getattr(laminar, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"laminar.{name} has no docstring"
        assert value.__module__.startswith("laminar.")


def test_all_errors_are_public():
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.LaminarError)
    }
    assert defined <= set(laminar.__all__)


def test_the_error_tree_in_the_docstring_is_the_tree():
    drawn, above = {"LaminarError": "Exception"}, {0: "LaminarError"}
    for indent, name in re.findall(r"^    ([ │]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4 + 1
        drawn[name] = above[depth - 1]
        above[depth] = name
    defined = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.LaminarError)
    }
    assert drawn == defined


def test_type_checkers_see_what_runs():
    tree = ast.parse(Path(laminar.__file__).read_text())
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
    )
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == laminar._HOME
    assert {*seen, "__version__"} == set(laminar.__all__)


def test_dir_lists_what_is_not_loaded_yet():
    assert set(laminar.__all__) <= set(dir(laminar))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Shuffler'"):
        laminar.Shuffler  # noqa: B018


@pytest.mark.parametrize(
    "statement", ["import laminar", "import laminar; laminar.NodeId; laminar.ConfigError"]
)
def test_importing_costs_nothing_heavy(statement):
    program = f"{statement}; import sys; print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
