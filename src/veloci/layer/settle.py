"""What a layer in overlay form wants from the layers below it, done once they are there.

So that layers can be applied side by side, `apply` leaves two things open: directories that the
tar did not list, which look like those below; and hard links to files of lower layers, which
become this layer's, as overlayfs itself copies a file up before it links it.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR
from stat import S_ISDIR, S_ISLNK, S_ISREG

from veloci.kernel.files import open_in_root
from veloci.layer.directories import LINKS, components
from veloci.layer.tar import wrong
from veloci.layer.tree import remove_tree
from veloci.layer.whiteout import OURS, is_whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.layer.apply import Application
    from veloci.layer.directories import Directories


def settle(layer: Application, lower: int | None) -> None:
    """Finish `layer`. lower: a descriptor of what the layers below make together, None if there are none.

    Raises InvalidInput for a hard link to nothing, OSError.
    """
    copies: dict[bytes, tuple[bytes, bytes]] = {}
    for path, target in layer.links:
        _link(layer.directories, lower, path, target, copies)
    done: set[bytes] = set()
    while waiting := [path for path in layer.implied if path not in done]:
        for path in waiting:
            done.add(path)
            if lower is not None and layer.directories.stands(path):
                _resemble(layer.directories, lower, path)
        layer.directories.release()
    layer.finish()


def real(lower: int, path: bytes) -> bytes:
    """`path` with the symlinks that the layers below have in it followed, within the root."""
    done: list[bytes] = []
    todo = path.split(b"/")
    links = 0
    while todo:
        part = todo.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            del done[-1:]
            continue
        here = b"/".join((*done, part))
        status = status_in(lower, here)
        if status is None:
            return components(b"/".join((*done, part, *todo)))
        if S_ISLNK(status.st_mode) and links < LINKS:
            links += 1
            target = target_of(lower, here)
            if target.startswith(b"/"):
                done = []
            todo = target.split(b"/") + todo
        else:
            done.append(part)
    return b"/".join(done)


def status_in(root: int, path: bytes) -> os.stat_result | None:
    """The status of what `path` is below `root`, no symlink at its end followed; None for nothing."""
    try:
        file = open_in_root(root, os.fsdecode(path) or ".", os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return None
        raise
    try:
        return os.fstat(file)
    finally:
        os.close(file)


def target_of(root: int, path: bytes) -> bytes:
    """Where the symlink at `path` below `root` points."""
    file = open_in_root(root, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink(b"", dir_fd=file)
    finally:
        os.close(file)


def _resemble(directories: Directories, lower: int, path: bytes) -> None:
    """Give an implied directory the attributes of the one below; where a symlink is below, go where it points."""
    place = real(lower, path)
    status = status_in(lower, place)
    if status is None or not S_ISDIR(status.st_mode):
        return
    if place != path:
        _move(directories, path, place)
    source = open_in_root(lower, os.fsdecode(place) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_attributes(source, directories.get(place).file, status)
    finally:
        os.close(source)
    directories.seen(place, status.st_mtime_ns)


def _move(directories: Directories, path: bytes, real: bytes) -> None:
    """Move what is in the directory at `path` into the one at `real`, and remove it."""
    source = directories.find(path)
    target = directories.get(real)
    _merge(source.file, target.file)
    head, _, name = path.rpartition(b"/")
    parent = directories.find(head)
    os.rmdir(name, dir_fd=parent.file)
    directories.forget(path)
    directories.get(real)


def _merge(source: int, target: int) -> None:
    for name in map(os.fsencode, os.listdir(source)):
        inner = outer = -1
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            outer = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
            _merge(inner, outer)
            os.rmdir(name, dir_fd=source)
        except (FileNotFoundError, NotADirectoryError):
            remove_tree(target, name)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            for file in (inner, outer):
                if file >= 0:
                    os.close(file)


def _link(
    directories: Directories, lower: int | None, path: bytes, target: bytes, copies: dict[bytes, tuple[bytes, bytes]]
) -> None:
    """Make a hard link to a file of the layers below. copies: where the files are now that were copied up."""
    head, _, last = target.rpartition(b"/")
    if lower is not None:
        head = real(lower, head)
    aim = head + b"/" + last if head else last
    status = None if lower is None else status_in(lower, aim)
    if status is None or S_ISDIR(status.st_mode) or lower is None:
        wrong(f"is a hard link to {target.decode(errors='backslashreplace')}, which is not there", path)
    parent = directories.within(head)
    if aim not in copies and parent is not None and not _is_there(parent.file, last):
        copy_up(lower, aim, status, parent.file, last)
        copies[aim] = head, last
    above, _, name = path.rpartition(b"/")
    try:
        place = directories.find(above)
    except (FileNotFoundError, NotADirectoryError):
        return  # a later entry took the place of its directory
    try:
        if not is_whiteout(os.lstat(name, dir_fd=place.file)):
            return  # a later entry took the name
        os.unlink(name, dir_fd=place.file)
    except FileNotFoundError:
        pass
    if aim not in copies:  # a later entry of this layer has the name of what is linked
        copy_up(lower, aim, status, place.file, name)
        copies[aim] = above, name
        return
    head, last = copies[aim]
    source = directories.get(head).file
    os.link(last, name, src_dir_fd=source, dst_dir_fd=place.file, follow_symlinks=False)


def _is_there(directory: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def copy_up(lower: int, path: bytes, status: os.stat_result, parent: int, name: bytes) -> None:
    """Copy a file, no directory, of the tree `lower`, to `name` in `parent`: content, owner, mode, attributes, time."""
    if S_ISLNK(status.st_mode):
        os.symlink(target_of(lower, path), name, dir_fd=parent)
    elif not S_ISREG(status.st_mode):
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=parent)
    else:
        source = open_in_root(lower, os.fsdecode(path), os.O_RDONLY | os.O_NOFOLLOW)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        copy = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            while os.sendfile(copy, source, None, 1 << 24):
                pass
            copy_attributes(source, copy, status)
            os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(source)
            os.close(copy)
        return
    if os.geteuid() == 0:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
    if not S_ISLNK(status.st_mode):
        os.chmod(name, status.st_mode & 0o7777, dir_fd=parent)
    os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


def copy_attributes(source: int, copy: int, status: os.stat_result) -> None:
    """Owner, mode and extended attributes of `source`, but overlayfs's own, to `copy`."""
    if os.geteuid() == 0:
        os.fchown(copy, status.st_uid, status.st_gid)
    os.fchmod(copy, status.st_mode & 0o7777)
    for key in os.listxattr(source):
        if not key.encode().startswith((*OURS, b"security.selinux")):
            os.setxattr(copy, key, os.getxattr(source, key))
