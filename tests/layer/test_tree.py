"""Trees are removed, also by several at once."""

import os
import subprocess
import sys


def test_several_remove_a_tree_at_once_and_it_is_gone(tmp_path):
    for number in range(300):
        (tmp_path / f"tree/{number % 10}/{number}/deep").mkdir(parents=True)
        (tmp_path / f"tree/{number % 10}/{number}/file").touch()
    code = "import os, sys; from veloci.layer.tree import remove_tree; input(); remove_tree(int(sys.argv[1]), b'tree')"
    directory = os.open(tmp_path, os.O_RDONLY)
    removing = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, pass_fds=[directory], text=True
        )
        for _ in range(4)
    ]
    for each in removing:
        each.stdin.write("\n")
        each.stdin.close()
    assert [each.wait() for each in removing] == [0] * 4
    os.close(directory)
    assert list(tmp_path.iterdir()) == []
