"""The new mount API on the real kernel: mounts as descriptors, seen nowhere until they are attached."""

import os
from pathlib import Path

import pytest

from veloci.kernel import mount as m
from veloci.kernel.process import CLONE_NEWNS, unshare

pytestmark = pytest.mark.needs("root", "namespaces")


@pytest.fixture
def apart():
    """Run a function in a child with its own mount namespace; its exception's text is the result."""

    def run(function):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                unshare(CLONE_NEWNS)
                m.mount("", "/", flags=m.MS_PRIVATE | m.MS_REC)
                os.write(theirs, repr(function()).encode())
            except OSError as error:
                os.write(theirs, error.strerror.encode())
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(pid, 0)
        return os.read(ours, 65536).decode()

    return run


def tmpfs(**options):
    context = m.fsopen("tmpfs")
    for key, value in options.items():
        m.fsconfig(context, key, value)
    m.fscreate(context)
    return m.fsmount(context, m.MOUNT_ATTR_NODEV)


def test_a_detached_mount_is_in_no_mount_table_and_usable():
    before = Path("/proc/self/mountinfo").read_text()
    tree = tmpfs(size="1m")
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=tree))
    listing = os.open(".", os.O_RDONLY, dir_fd=tree)
    assert os.listdir(listing) == ["file"]
    assert Path("/proc/self/mountinfo").read_text() == before
    os.close(listing)
    os.close(tree)


def test_it_is_attached_by_path_or_by_descriptor(apart, tmp_path):
    def attach():
        m.move_mount(tmpfs(mode="0700"), str(tmp_path))
        os.mkdir(tmp_path / "below")
        m.move_mount(tmpfs(), os.open(tmp_path / "below", os.O_PATH))
        return [os.path.ismount(tmp_path), os.path.ismount(tmp_path / "below")]

    assert apart(attach) == "[True, True]"


def test_a_cloned_tree_can_be_made_read_only_with_all_below_it(apart, tmp_path):
    def clone():
        m.mount("tmpfs", tmp_path, "tmpfs")
        (tmp_path / "a").mkdir()
        m.mount("tmpfs", tmp_path / "a", "tmpfs")
        tree = m.open_tree(m.AT_FDCWD, str(tmp_path), m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
        m.mount_setattr(tree, set=m.MOUNT_ATTR_RDONLY, recursive=True)
        (tmp_path / "b").mkdir()  # the original stays writable
        os.mkdir("a/c", dir_fd=tree)

    assert apart(clone) == "Read-only file system"


def test_a_refused_option_says_what_the_filesystem_said(apart):
    assert apart(lambda: tmpfs(bogus="1")) == "fsconfig: Invalid argument: tmpfs: Unknown parameter 'bogus'"


def test_an_unknown_filesystem_is_enodev():
    with pytest.raises(OSError, match="fsopen: No such device"):
        m.fsopen("nofs")
