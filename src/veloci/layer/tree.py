"""Trees beneath a descriptor: removed without following anything."""

from __future__ import annotations

import os


def remove_tree(parent: int, name: bytes) -> None:
    """Remove `name` in directory `parent` and, if it is a directory, all below it. Raises OSError.

    Nothing there is fine, also where that comes about meanwhile: collections take over what others have put aside.
    """
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        pass
    except FileNotFoundError:
        return
    else:
        return
    try:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            for child in os.listdir(directory):
                remove_tree(directory, os.fsencode(child))
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def used(directory: int) -> int:
    """Bytes that the files beneath `directory` take on the disk; a file of several names counts once."""
    total, seen = 0, set()
    stack = [os.dup(directory)]
    while stack:
        here = stack.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if status.st_ino in seen:
                            continue
                        seen.add(status.st_ino)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(
                            os.open(
                                entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here
                            )
                        )
        finally:
            os.close(here)
    return total
