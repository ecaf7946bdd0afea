"""Everything public says what it is, and every option what it does."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import veloci
from veloci.cli.main import ALIASES, COMMANDS
from veloci.cli.options import Usage

HERE = Path(__file__).parent
ROOT = Path(veloci.__path__[0])
MODULES = sorted(ROOT.rglob("*.py"))


def undocumented(path):
    """Public functions, classes and methods of a module without a docstring, as `line: name`."""
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) else ["1: the module"]
    kinds = (ast.FunctionDef, ast.ClassDef)

    def look(node, prefix, *, abstract=False):
        for child in node.body:
            if isinstance(child, ast.If):  # TYPE_CHECKING: protocols have readers too
                look(child, prefix, abstract=True)
            if not isinstance(child, kinds) or child.name.startswith("_"):
                continue
            stub = abstract and isinstance(child, ast.FunctionDef) and isinstance(child.body[-1].value, ast.Constant)
            is_property = any("overload" in ast.dump(each) for each in child.decorator_list)
            if not ast.get_docstring(child) and not stub and not is_property:
                missing.append(f"{child.lineno}: {prefix}{child.name}")
            if isinstance(child, ast.ClassDef):
                look(child, f"{prefix}{child.name}.", abstract=abstract)

    look(tree, "")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_has_a_docstring(path):
    assert undocumented(path) == []


def usage(name):
    module, _, attribute = COMMANDS[name].partition(":")
    return Usage(getattr(importlib.import_module(f"veloci.cli.{module}"), attribute), f"veloci {name}")


def options(known):
    """(names, placeholder, description) of every option line in a command's help."""
    for line in known.text().splitlines():
        if line.startswith("-"):
            left, _, text = line.partition("  ")
            words = left.replace("=", " ").split()
            names = [word.rstrip(",") for word in words if word.startswith("-") and word != "-"]
            if not names:  # of the text: `-` is a stream
                continue
            yield names, words[len(names) :], text.strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name):
    known = usage(name)
    described = {known.flags[flag] for names, _, text in options(known) if text for flag in names}
    assert set(known.kinds) - described == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_names_the_value_it_takes(name):
    known = usage(name)
    without = [
        names
        for names, placeholder, _ in options(known)
        if known.kinds[known.flags[names[0]]] != "bool" and not placeholder
    ]
    assert without == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_a_sentence(name):
    first = inspect.getdoc(usage(name).command).splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")


@pytest.mark.parametrize("page", ["docs/status.md", "docs/security.md", "README.md", "CHANGELOG.md"])
def test_the_tests_that_a_page_names_are_there(page):
    text = (HERE.parent / page).read_text()
    missing = []
    for path, name in re.findall(r"(tests/[a-z0-9_/]+\.py)(?:::(\w+))?", text):
        file = HERE.parent / path
        if not file.exists() or f"def {name}" not in file.read_text():
            missing.append(f"{path}::{name}")
    assert missing == []


def test_aliases_lead_to_commands():
    assert {target for target in ALIASES.values() if target not in COMMANDS} == set()


def commands_in(path):
    """Every `veloci …` that a page writes as code."""
    for text in re.findall(r"`(veloci [^`]*)`", path.read_text()):
        words = text.replace("…", "").split()[1:]
        name = next(
            (" ".join(words[:size]) for size in (2, 1) if " ".join(words[:size]) in {*COMMANDS, *ALIASES}), None
        )
        yield text, ALIASES.get(name, name), words


@pytest.mark.parametrize("page", ["images.md", "containers.md"])
def test_a_page_names_commands_and_options_that_there_are(page):
    found = list(commands_in(ROOT.parents[1] / "docs" / page))
    assert len(found) > 30
    assert [text for text, name, _ in found if name is None] == []
    wrong = [
        (text, word)
        for text, name, words in found
        for word in words
        if word.startswith("-") and word.rstrip(",:") not in usage(name).flags
    ]
    assert wrong == []
