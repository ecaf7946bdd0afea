"""Layers read as lists give the tree that unpacking them gives."""

import hashlib
import io
import os
import shutil
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veloci.layer.apply import apply
from veloci.layer.merge import Tree

pytestmark = pytest.mark.needs("root")

names = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/c", "f/g/h"])
entries = st.lists(
    st.one_of(
        st.tuples(st.just("file"), names, st.binary(max_size=3)),
        st.tuples(st.just("dir"), names, st.just(b"")),
        st.tuples(st.just("gone"), names, st.just(b"")),
        st.tuples(st.just("opaque"), st.sampled_from(["d", "d/e", "f"]), st.just(b"")),
    ),
    max_size=6,
)


def layer(script):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind, name, content in script:
            head, _, last = name.rpartition("/")
            forms = {"gone": os.path.join(head, f".wh.{last}"), "opaque": f"{name}/.wh..wh..opq"}
            info = tarfile.TarInfo(forms.get(kind, name))
            info.type = tarfile.DIRTYPE if kind == "dir" else tarfile.REGTYPE
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def seen(root):
    found = {}
    for top, _, files in os.walk(root):
        for name in files:
            path = os.path.join(top, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
    return found


@settings(max_examples=150)
@example([[("file", "d/a", b"")], [("file", "d", b""), ("dir", "d", b"")]])
@given(st.lists(entries, min_size=1, max_size=4))
def test_a_list_of_layers_is_the_tree_that_they_make(tmp_path_factory, scripts):
    root = tmp_path_factory.mktemp("root")
    tree = Tree()
    directory = os.open(root, os.O_DIRECTORY)
    try:
        for script in scripts:
            data = layer(script)
            apply([data], directory, overlay=False)
            tree.add([data])
            listed = {path.decode(): file.content for path, file in tree.files.items() if file.kind == "file"}
            assert listed == seen(root)
    finally:
        os.close(directory)
        shutil.rmtree(root)
