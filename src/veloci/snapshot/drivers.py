"""Which way a store's layers are kept from now on. What is there already stays as it is: every way mounts with any.

overlay   unpacked, stacked by overlayfs
erofs     the tar as it came and an index of it; the kernel reads it where it is (root, and Linux 6.4 or EROFS as of it)
copy      unpacked, and copied whole for each container: where overlayfs is missing
"""

from __future__ import annotations

import os
from contextlib import suppress
from fcntl import LOCK_SH

from veloci.errors import InvalidInput, Unsupported, VelociError
from veloci.snapshot.snapshots import Lock, made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.snapshot.snapshots import Snapshots

NAMES = ("erofs", "overlay", "copy")  # the best first; the last works everywhere
VARIABLE = "VELOCI_SNAPSHOTTER"  # the command line's --snapshotter


def driver(snapshots: Snapshots) -> str:
    """The one asked for, else the store's, which is chosen here when it has none: the best that works on this host.

    Raises InvalidInput for one that does not exist.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked:
        return checked(asked)
    path = f"{snapshots.root}/driver"
    try:
        with open(path, encoding="ascii") as file:
            return checked(file.read().strip())
    except FileNotFoundError:
        return _chosen(snapshots, path)


def checked(name: str) -> str:
    """`name`, if it is a driver's. Raises InvalidInput."""
    if name not in NAMES:
        raise InvalidInput(f"no snapshotter {name!r}", hint=f"one of {', '.join(NAMES)}", where="--snapshotter")
    return name


def usable(snapshots: Snapshots) -> str:
    """As `driver`, for layers that come now, which are to be mounted here. Raises InvalidInput, Unsupported."""
    name = driver(snapshots)
    why = _against(snapshots, name)
    if why:
        raise Unsupported(f"{name}: {why}", hint=f"{_best(snapshots)} works here", where="--snapshotter")
    return name


def _against(snapshots: Snapshots, name: str) -> str:
    """Why the driver in use cannot be, if it was asked for: the store's own was tried when it was chosen."""
    return problem(snapshots, name) if os.environ.get(VARIABLE) and name != NAMES[-1] else ""


def _best(snapshots: Snapshots) -> str:
    return next((name for name in NAMES[:-1] if not problem(snapshots, name)), NAMES[-1])


def _chosen(snapshots: Snapshots, path: str) -> str:
    name = _best(snapshots)
    temporary = f"{path}.{os.getpid()}-{os.urandom(6).hex()}"
    with open(temporary, "x", encoding="ascii") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fdatasync(file.fileno())  # an empty one would stop every pull after a power cut
    with suppress(FileExistsError):  # another one has chosen
        os.link(temporary, path)
    os.unlink(temporary)
    return name


def problem(snapshots: Snapshots, name: str) -> str:
    """Why no layer kept in that way can be written upon here; "" if it can: an empty one is made and mounted."""
    place = f"{snapshots.root}/ingest/try-{os.getpid()}-{os.urandom(6).hex()}"
    with Lock(snapshots.root, LOCK_SH):  # else it might be collected
        try:
            _try(place, name)
        except VelociError as error:
            return str(error)
        except OSError as error:
            return str(error.strerror)
        finally:
            snapshots._discard(place)
    return ""


def better(snapshots: Snapshots) -> list[tuple[str, str]]:
    """The drivers that would be better than the one in use, best first, and why each is not: what stands against it.

    The one in use too, if it was asked for and does not work here.
    """
    used = snapshots.driver
    found = [(name, problem(snapshots, name)) for name in NAMES[: NAMES.index(used)]]
    against = _against(snapshots, used)
    if against:
        found.append((used, against))
    return [
        (name, f"not here: {why}" if why else "works here, by --snapshotter or in a new store") for name, why in found
    ]


def _try(place: str, name: str) -> None:
    from veloci.snapshot.forms import Archive, Directory
    from veloci.snapshot.overlay import mounted

    for each in ("below", "upper", "work"):
        made(f"{place}/{each}")
    form = Archive(place) if name == "erofs" else Directory(place)
    try:
        form.read([bytes(1024)])
        form.settle(None)
    finally:
        form.close()
    os.close(mounted([f"{place}/fs", f"{place}/below"], f"{place}/upper", f"{place}/work"))
