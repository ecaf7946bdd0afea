"""What is mounted in a container: binds, volumes, memory; asked for, of the image, or of other containers."""

from __future__ import annotations

import os

from veloci.bundle import values
from veloci.errors import InvalidInput, Unsupported
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.engine.run_options import RunOptions
    from veloci.engine.volumes import Volumes

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable")


class Point(Document):
    """One mount. source: a path of the host; options: of config.json's mounts; mode: as the user wrote it, `ro,z`."""

    type: str  # bind, volume, tmpfs
    destination: str
    source: str = ""
    name: str = ""  # of a volume
    options: tuple[str, ...] = ()
    mode: str = ""
    anonymous: bool = False  # a volume that the user gave no name: it may go with its last container
    copy: bool = False  # what the image has there goes into the volume, if that is empty

    @property
    def writable(self) -> bool:
        """Whether the container may write there."""
        return not {"ro", "rro"} & {*self.options}

    @property
    def propagation(self) -> str:
        """How mounts below it pass between host and container; "" of a volume."""
        return next((word for word in self.options if word in _PROPAGATION), "") if self.type == "bind" else ""

    def configured(self) -> dict[str, Any]:
        """It as an entry of config.json's mounts."""
        if self.type == "tmpfs":
            return {"destination": self.destination, "type": "tmpfs", "source": "tmpfs", "options": list(self.options)}
        options = list(self.options) if self.type == "bind" else ["rbind", "rprivate", *self.options]
        return {"destination": self.destination, "type": "bind", "source": self.source, "options": options}


class Wanted:
    """The mounts that `options` asks for, read before any image is looked at. Raises InvalidInput, Unsupported."""

    def __init__(self, options: RunOptions) -> None:
        self.short = [values.volume(text) for text in options.volume]
        self.long = [values.mount(text) for text in options.mount]
        self.memory = [values.tmpfs(text) for text in options.tmpfs]
        self.others = [_other(text) for text in options.volumes_from]
        self.points: list[Point] = []
        seen: set[str] = set()
        for each in (*self.short, *self.long, *self.memory):
            if each["destination"] in seen:
                raise InvalidInput(f"duplicate mount point: {each['destination']}", where="--volume")
            seen.add(each["destination"])
            if (each["source"], each["destination"]) != ("/proc", "/proc"):
                values.place(each["destination"], "--volume")
            if {"z", "Z"} & {*each["options"]} and os.path.exists("/sys/fs/selinux/enforce"):
                raise Unsupported("files are not relabelled for SELinux", where="--volume", hint="chcon -R")
        for each in self.long:
            if each["type"] == "bind" and not os.path.exists(each["source"]):
                raise InvalidInput(f"bind source path does not exist: {each['source']}", where="--mount")

    def make(self, id: str, image: Iterable[str], engine: Engine) -> None:
        """Bring all mounts of the container `id` about, in `points`; from now on it has the volumes among them.

        image: the image's VOLUMEs. What was done beyond what was asked goes to the engine's warnings.
        """
        records = engine.containers.records
        found: dict[str, Any] = {}
        for other, readonly in self.others:
            theirs = records.load(records.find(other)).mounts
            found |= {point.destination: point for point in _theirs(theirs, readonly=readonly)}
        found |= {each["destination"]: each for each in (*self.short, *self.long, *self.memory)}
        for path in image:
            place = values.place("/" + path, "config.Volumes of the image")
            found.setdefault(place, {"type": "volume", "source": "", "destination": place, "options": []})
        for each in found.values():
            if isinstance(each, Point):
                if each.type == "volume":
                    engine.volumes.create(each.name, user=id)
                self.points.append(each)
            elif each["type"] == "volume":
                self.points.append(_volume(each, id, engine.volumes))
            elif each["type"] == "bind":
                self.points.append(_bind(each, engine, make=each in self.short))
            else:
                self.points.append(Point.convert(each))


def _other(text: str) -> tuple[str, bool]:
    """`CONTAINER[:ro|rw]` as its word and whether it is read-only here."""
    word, colon, mode = text.partition(":")
    if not word or (colon and mode not in ("ro", "rw", "z", "Z")):
        raise InvalidInput(f"invalid mode: {text!r}", where="--volumes-from", hint="CONTAINER[:ro]")
    return word, mode == "ro"


def _theirs(mounts: Iterable[Any], *, readonly: bool) -> Iterable[Point]:
    """The binds and volumes of another container."""
    for value in mounts:
        point = Point.convert(value)
        if point.type == "tmpfs":
            continue
        if readonly and point.writable:
            point = point.replace(options=(*point.options, "ro"), mode="ro")
        yield point


def _bind(each: dict[str, Any], engine: Engine, *, make: bool) -> Point:
    """One directory or file of the host. make: a directory that is not there is made, as docker does for -v."""
    source = os.path.abspath(os.path.expanduser(each["source"]))
    if make and not os.path.exists(source):
        try:
            os.makedirs(source)
        except OSError as error:
            raise InvalidInput(f"make {source}: {error.strerror}", where="--volume") from None
        engine.warn(f"--volume: {source} was not there: it is a new, empty directory")
    return Point(
        type="bind",
        destination=each["destination"],
        source=source,
        options=tuple(word for word in each["options"] if word not in ("z", "Z")),
        mode=",".join(word for word in each["options"] if word not in ("rbind", "bind", "rprivate")),
    )


def _volume(each: dict[str, Any], id: str, volumes: Volumes) -> Point:
    """One volume, made if it is not there."""
    volume = volumes.create(
        each["source"],
        labels=each.get("labels"),
        options=each.get("driver_options"),
        user=id,
    )
    return Point(
        type="volume",
        destination=each["destination"],
        source=volumes.place(volume),
        name=volume.name,
        anonymous=not each["source"],
        options=tuple(word for word in each["options"] if word == "ro"),
        mode=",".join(word for word in each["options"] if word != "nocopy"),
        copy="nocopy" not in each["options"],
    )
