"""The context: what is found, left out, and how its digest changes."""

import os

import pytest

from veloci.build.context import Tree
from veloci.build.ignore import Ignore
from veloci.errors import NotFound


@pytest.fixture
def tree(tmp_path):
    """A function: files by name, as a context with these ignore rules."""
    root = tmp_path / "context"
    root.mkdir()
    opened = []

    def make(files, rules=""):
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        rules_of = Ignore.read(rules.encode(), name=".dockerignore")
        opened.append(Tree(descriptor, name="the build context", ignore=rules_of))
        return opened[-1]

    make.root = root
    yield make
    for found in opened:
        found.close()


def walked(tree, path):
    return [entry.path for entry in tree.walk(path)]


def test_a_walk_gives_parents_first_in_the_order_of_names(tree):
    found = tree({"b/2": "", "b/1/x": "", "a": ""})
    assert walked(found, ".") == ["", "a", "b", "b/1", "b/1/x", "b/2"]
    assert walked(found, "/b/") == ["", "1", "1/x", "2"]
    assert walked(found, "../a") == [""]


def test_ignored_files_are_not_there_and_what_comes_back_brings_its_directories(tree):
    found = tree({"a.md": "", "d/x.md": "", "d/keep": "", "e/x": "", "e/y": ""}, "*.md\ne\n!e/y\n")
    assert walked(found, ".") == ["", "d", "d/keep", "d/x.md", "e", "e/y"]
    with pytest.raises(NotFound, match=r"^a\.md: not in the build context: \.dockerignore:1 leaves it out$"):
        found.resolved("a.md")


def test_a_missing_source_is_told(tree):
    with pytest.raises(NotFound, match=r"^nope\.txt: not in the build context$"):
        walked(tree({}), "nope.txt")


def test_symlinks_lead_nowhere_outside(tree):
    found = tree({"etc/passwd": "mine"})
    (tree.root / "out").symlink_to("/etc/passwd")
    (tree.root / "up").symlink_to("../../../../etc")
    for entry in found.walk("out"):
        with open(entry.open()) as file:
            assert file.read() == "mine"
    assert walked(found, "up") == ["", "passwd"]


def test_wildcards_match_within_a_directory(tree):
    found = tree({"a1.txt": "", "a2.txt": "", "d/a3.txt": "", "e/a3.txt": "", "b": ""}, "a2*")
    assert found.matches("a*.txt") == ["a1.txt"]
    assert found.matches("*/a?.txt") == ["d/a3.txt", "e/a3.txt"]
    assert found.matches("[ab]1.txt") == ["a1.txt"]
    assert found.matches("nothing*") == []
    assert found.matches("nothing") == ["nothing"]


def test_the_digest_counts_names_contents_and_modes_but_no_times(tree):
    files = {"d/a": "one", "d/b": "two"}
    found = tree(files)
    first = found.digest(["d"])
    os.utime(tree.root / "d/a", (1, 1))
    assert found.digest(["d"]) == first
    before = os.stat(tree.root / "d/a")
    (tree.root / "d/a").write_text("eno")
    os.utime(tree.root / "d/a", ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = found.digest(["d"])
    assert changed != first
    (tree.root / "d/a").chmod(0o600)
    mode = found.digest(["d"])
    assert mode != changed
    (tree.root / "d/empty").mkdir()
    empty = found.digest(["d"])
    assert empty != mode
    (tree.root / "d/b").rename(tree.root / "d/c")
    assert found.digest(["d"]) != empty


def test_a_file_that_is_left_out_does_not_count(tree):
    found = tree({"a": "1", "x.log": "1"}, "*.log")
    first = found.digest(["."])
    (tree.root / "x.log").write_text("2")
    assert found.digest(["."]) == first
