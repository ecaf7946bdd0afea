"""The image's /etc/passwd, which the host reads to know who a name is: whatever it is, nothing of the host is read."""

import os

import pytest

from veloci.engine.creation import read_account_file
from veloci.errors import VelociError


def made(root, how):
    path, outside = root / "etc/passwd", root.parent / "outside"
    outside.write_bytes(b"host:x:0:0::/:/bin/sh\n")
    if how == "a directory":
        path.mkdir()
    elif how == "a fifo":
        os.mkfifo(path)
    elif how == "endless":
        with path.open("wb") as file:
            file.write(b"a:x:5:5::/:/bin/sh\n")
            file.truncate(1 << 40)
    else:
        path.symlink_to({"a link up": f"../../../..{outside}", "an absolute link": outside, "itself": "passwd"}[how])


@pytest.mark.parametrize("how", ["a directory", "a fifo", "endless", "a link up", "an absolute link", "itself"])
def test_it_is_read_in_the_root_bounded_and_without_waiting(tmp_path, how):
    (tmp_path / "root/etc").mkdir(parents=True)
    made(tmp_path / "root", how)
    root = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    try:
        read = read_account_file(root, "passwd")
    except VelociError:
        read = b""
    finally:
        os.close(root)
    assert b"host" not in read
    assert len(read) <= 1 << 20
    assert read.startswith(b"a:x:5:5:" if how == "endless" else b"")
