"""`veloci unpack`."""

from __future__ import annotations

from contextlib import contextmanager

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from veloci.layer.owners import Map, Owners
    from veloci.spec.image import Descriptor, ImageConfig
    from veloci.spec.platform import Platform
    from veloci.transport.place import Source


def unpack(
    image: str,
    bundle: str,
    /,
    *,
    uid_map: tuple[str, ...] = (),
    gid_map: tuple[str, ...] = (),
    rootless: bool = False,
    keep_dirlinks: bool = False,
    raw: bool = False,
    platform: str | None = None,
    registry: RegistryOptions,
) -> int:
    """Unpack an image to an OCI bundle: its files in BUNDLE/rootfs, and BUNDLE/config.json.

    IMAGE is in any place, written as skopeo writes it: oci:DIRECTORY[:NAME], docker-archive:FILE,
    docker://NAME, …, or a NAME in the local store. `veloci-runtime run`, runc and crun run the bundle;
    `veloci repack` and `umoci repack` make a layer of what is changed in it.

    --uid-map CONTAINER:HOST:SIZE   whose the files are here; may be repeated
    --gid-map CONTAINER:HOST:SIZE   the same of groups
    --rootless            for a user without privilege (who always unpacks so): owners are noted, devices left empty
    --keep-dirlinks       where a layer has a directory and a symlink to one is there, keep the symlink
    --raw                 only BUNDLE/rootfs and config.json, without what repack needs
    --platform OS/ARCH    the image for this platform
    """
    import os

    from veloci.cli.surgery import Way
    from veloci.layer.owners import Owners
    from veloci.spec import platform as platforms

    uids, gids = _map(uid_map, "--uid-map"), _map(gid_map, "--gid-map")
    owners = Owners(uids, gids, rootless=rootless or (os.geteuid() != 0 and not (uids or gids)))
    with Way(registry).source(image) as opened:
        wanted = platforms.parse(platform) if platform else None
        _unpack(opened, bundle, wanted, owners, keep_links=keep_dirlinks, noted=None if raw else lasting(image))
    return 0


def lasting(image: str) -> str:
    """A place's name that means the same in every directory."""
    import os

    from veloci.transport.names import split

    kind, rest = split(image)
    if kind in ("docker://", "docker-daemon:", "veloci:"):
        return kind + rest
    path, colon, name = rest.partition(":")
    return f"{kind}{os.path.abspath(path)}{colon}{name}"


def _unpack(
    source: Source,
    target: str,
    wanted: Platform | None,
    owners: Owners,
    *,
    keep_links: bool,
    noted: str | None,
) -> None:
    from veloci.engine.tasks import ahead
    from veloci.snapshot.bundle import bundle
    from veloci.snapshot.repack import record
    from veloci.spec.image import ImageConfig
    from veloci.transport.edited import edited

    opened = edited(source, wanted)
    pairs = zip(opened.draft.layers, opened.draft.diff_ids, strict=True)
    layers = ((_blob(source, layer), diff_id) for layer, diff_id in pairs)
    config = ImageConfig.convert(opened.draft.config)
    hashes: dict[int, str] | None = None if noted is None else {}
    with bundle(target, layers, owners=owners, keep_links=keep_links, hashes=hashes, ahead=ahead) as (making, root):
        _configure(config, making, root, owners)
        if noted is not None:
            record(making, root, opened.manifest()[0], owners, noted, hashes)


@contextmanager
def _blob(source: Source, layer: Descriptor) -> Iterator[Iterator[bytes]]:
    """A layer as it is stored, checked against its digest: damaged bytes are told from a malformed layer."""
    from veloci.layer.stream import Verified
    from veloci.spec import media

    media.check_layer(layer.media_type, layer.digest)
    with source.blob(layer) as chunks, Verified(chunks, layer.digest, layer.size) as checked:
        yield checked


def _configure(image: ImageConfig, making: str, root: int, owners: Owners) -> None:
    """Write config.json; an image that names no command gets a shell, as umoci does."""
    from veloci.bundle.annotations import annotated
    from veloci.bundle.configure import configure
    from veloci.bundle.options import Options
    from veloci.cli.sessions import warn
    from veloci.kernel.files import read_in_root
    from veloci.spec.document import dumps

    command = (image.config.entrypoint or ()) + (image.config.cmd or ())
    annotations, omitted = annotated(image)
    for key in omitted:
        warn(f"the label {key!r:.200} is no annotation of the bundle: a runtime would obey it")
    document = configure(
        image,
        Options(args=None if command else ("sh",), annotations=annotations),
        passwd=read_in_root(root, "/etc/passwd", 4 << 20),
        group=read_in_root(root, "/etc/group", 4 << 20),
    )
    if not owners.plain:
        _own(document, owners)
    with open(f"{making}/config.json", "xb") as file:
        file.write(dumps(document, indent=2) + b"\n")


def _own(document: dict[str, Any], owners: Owners) -> None:
    """Let the container have a user namespace in which the files are whose the image says."""
    import os

    from veloci.bundle.defaults import default

    linux = document["linux"]
    if owners.rootless:
        fewer = default(rootless=True, uid=os.geteuid(), gid=os.getegid())
        document["mounts"] = fewer["mounts"]
        linux.pop("resources", None)
        linux |= {key: fewer["linux"][key] for key in ("uidMappings", "gidMappings", "namespaces")}
        return
    linux["namespaces"] = [*linux["namespaces"], {"type": "user"}]
    for key, table in (("uidMappings", owners.uids), ("gidMappings", owners.gids)):
        whole = table or ((0, 0, 2**32 - 1),)
        linux[key] = [{"containerID": first, "hostID": second, "size": size} for first, second, size in whole]


def _map(lines: tuple[str, ...], flag: str) -> Map:
    """An ID map's lines. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    found = []
    for line in lines:
        numbers = line.split(":")
        numbers += ["1"] if len(numbers) == 2 else []
        if len(numbers) != 3 or not all(number.isdecimal() and int(number) < 2**32 for number in numbers):
            raise InvalidInput(
                f"{line!r} is no line of an ID map", where=flag, hint="CONTAINER:HOST:SIZE, 0:100000:65536"
            )
        first, second, size = map(int, numbers)
        if max(first, second) + size >= 2**32:  # the last number means nobody: chown(2) leaves the owner as it is
            raise InvalidInput(f"{line!r} goes beyond the last ID, {2**32 - 2}", where=flag)
        found.append((first, second, size))
    return found
