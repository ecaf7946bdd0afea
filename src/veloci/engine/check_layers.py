"""Whether unpacked layers are what their blobs hold, and containers have what they stand on."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from fcntl import LOCK_EX

from veloci.engine.check import REPAIR, Damage
from veloci.errors import Corrupt, HostError, InvalidInput, NotFound, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.engine.check import Check, Layered
    from veloci.spec.digest import Digest


def damages(check: Check) -> Iterator[Damage]:
    """What is wrong with the layers below check.engine's root, and with its containers."""
    from veloci.engine.tasks import parallel

    snapshots = check.engine.snapshots
    # From the base up, as far as that is known: what stands on a damaged layer is not told of again.
    chains = sorted(snapshots.chain_ids(), key=lambda chain_id: _depth(check, chain_id))
    for chain_id, problem in zip(chains, parallel(lambda each: _layer(check, each), chains, limit=2), strict=True):
        if problem is None:
            continue
        check.layers += 1
        if problem:
            yield _damage(check, chain_id, problem)
    yield from _containers(check)


def _depth(check: Check, chain_id: Digest) -> int:
    return len(check.chains[chain_id].layers) if chain_id in check.chains else 0


def _layer(check: Check, chain_id: Digest) -> str | None:
    """What is wrong with a layer, "" if nothing, None if it is gone meanwhile."""
    snapshots = check.engine.snapshots
    path = snapshots.layer(chain_id)
    try:
        below = snapshots.below(chain_id)
        missing = [lower for lower in below if not os.path.isdir(snapshots.layer(lower))]
        problem = "" if below[:1] == [chain_id] else "does not say what is below it"
        if missing and not problem:
            problem = f"stands on {missing[0]}, which is not here"
    except (NotFound, ValueError):
        problem = "does not say what is below it"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if not problem:
        problem = _content(check, chain_id)
    return problem if os.path.lexists(path) else None


def _content(check: Check, chain_id: Digest) -> str:
    """How a layer's files differ from its tar: its own, or what is in the blob as far as that is here and whole."""
    from veloci.layer.differences import differences
    from veloci.layer.stream import Verified

    known = check.chains.get(chain_id)
    path = check.engine.snapshots.layer(chain_id)
    own = os.path.exists(f"{path}/tar")
    if known is None or (not own and known.descriptor.digest in check.damaged):
        return ""
    try:
        with ExitStack() as stack:
            root = _root(path, stack)
            tar = stack.enter_context(Verified(_tar(check, known, path, stack), known.layers[-1][1]))
            found = differences(tar, root)
    except (Corrupt, InvalidInput) as error:
        return f"has another tar: {error}" if own else ""  # of a blob is told as one
    except NotFound:
        return ""  # the blob is gone
    except (HostError, OSError) as error:
        return f"cannot be read: {error if isinstance(error, HostError) else error.strerror}"
    if not found:
        return ""
    name, problem = next(iter(sorted(found.items())))
    more = f", and {len(found) - 1} files more differ from it" if len(found) > 1 else ""
    return f"/{name.decode(errors='backslashreplace')} {problem}{more}"


def _root(path: str, stack: ExitStack) -> int:
    """A descriptor of the layer's files, in overlayfs's form."""
    from veloci.snapshot.erofs import mounted
    from veloci.snapshot.overlay import index_of

    at = path + "/fs"
    index = index_of(at)
    if index:
        view = mounted(index, f"{path}/tar")
        stack.callback(os.close, view)
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view)
    else:
        root = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, root)
    return root


def _tar(check: Check, known: Layered, path: str, stack: ExitStack) -> Iterator[bytes]:
    from veloci.content.store import Blob
    from veloci.layer.stream import decompressed

    try:
        own = os.open(f"{path}/tar", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return decompressed(stack.enter_context(check.engine.store.open(known.descriptor)))
    return stack.enter_context(Blob(own, 0))


def _damage(check: Check, chain_id: Digest, problem: str) -> Damage:
    known = check.chains.get(chain_id)
    hint = REPAIR
    if known is None or known.descriptor.digest in check.damaged:
        need = check.needs.get(known.descriptor.digest) if known else None
        hint = f"{REPAIR}, then {need.hint}" if need else REPAIR
    return Damage(f"layer {check.engine.snapshots.layer(chain_id)}", problem, hint, lambda: _away(check, chain_id))


def _away(check: Check, chain_id: Digest) -> str:
    """Remove a layer and what stands on it, and unpack them again as far as their blobs are whole. Says what was done.

    What a running container stands on stays: its files would vanish under it.
    """
    from veloci.content.lease import Locked
    from veloci.snapshot.snapshots import Lock

    snapshots, graves, gone = check.engine.snapshots, [], []
    with Lock(snapshots.root, LOCK_EX), Locked(snapshots.root, LOCK_EX):
        above = [each for each in snapshots.chain_ids() if each == chain_id or chain_id in _below(check, each)]
        users = [id for id in _running(check) if _parent(check, id) in above]
        if users:
            return f"in use; veloci stop {' '.join(id[:12] for id in users)}, then {REPAIR}"
        os.makedirs(f"{snapshots.root}/ingest", 0o700, exist_ok=True)
        for each in above:
            graves.append(f"{snapshots.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}")
            with suppress(FileNotFoundError):
                os.rename(snapshots.layer(each), graves[-1])
                gone.append(each)
    for grave in graves:
        snapshots._discard(grave)
    again = [_again(check, each) for each in gone]
    return "unpacked again" if all(again) else "removed"


def _again(check: Check, chain_id: Digest) -> bool:
    known = check.chains.get(chain_id)
    if known is None:
        return False
    try:
        check.engine.snapshots.unpack(check.engine.store, known.layers)
    except VelociError:
        return False  # a blob is not here, or not whole
    return True


def _below(check: Check, chain_id: Digest) -> list[Digest]:
    try:
        return check.engine.snapshots.below(chain_id)
    except (NotFound, ValueError, OSError):
        return []


def _parent(check: Check, key: str) -> Digest:
    try:
        return check.engine.snapshots.parent(key)
    except NotFound:
        return ""


def _running(check: Check) -> list[str]:
    """The writable snapshots in use: of containers that live, and of whoever else has one: a build."""
    from veloci.monitor.state import LIVE

    records = check.engine.containers.records
    ids = set(records.ids())
    keys = check.engine.snapshots.keys()
    return [key for key in keys if key not in ids or records.current(key).status in LIVE]


def _containers(check: Check) -> Iterator[Damage]:
    engine = check.engine
    if not os.path.isdir(f"{engine.root}/containers"):
        return
    records = engine.containers.records
    for id in records.ids():
        remove = f"veloci rm -f {id[:12]}"
        try:
            record = records.load(id)
            engine.snapshots.directories(id)
        except NotFound as error:
            if os.path.exists(f"{records.data(id)}/container.json") and not records.busy(id):
                yield Damage(f"container {id[:12]}", str(error), remove)
        except VelociError as error:
            yield Damage(f"container {id[:12]}", str(error), remove)
        else:
            check.containers += 1
            del record
