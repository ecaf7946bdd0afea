"""What a place does: sources give documents and blobs, destinations take them.

A place is a context manager: what it opened is closed, what it began and did not finish is removed.
"""

from __future__ import annotations

from veloci.blocks import contextmanager
from veloci.errors import Corrupt, NotFound, VelociError

CHUNK = 1 << 20  # bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol, Self, TypeAlias, TypeVar

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference

    # opened(start): a context manager that gives a blob's chunks from byte `start` on
    Opened: TypeAlias = Callable[[int], AbstractContextManager[Iterable[bytes]]]
    Chunks: TypeAlias = AbstractContextManager[Iterator[bytes]]
    Done = TypeVar("Done")

    class Progress(Protocol):
        """Who is told how a copy goes. key: one piece of work, the first 12 digits of a digest."""

        def start(self, key: str, text: str, total: int | None, /) -> None:
            """Work of `total` bytes begins; `text` says which: "Pulling fs layer"."""

        def advance(self, key: str, n: int, /) -> None:
            """`n` more bytes are done."""

        def done(self, key: str, text: str, /) -> None:
            """It ended: "Pull complete", "Already exists"."""

    class Source(Protocol):
        """Where an image comes from."""

        name: str  # as the user knows it
        made_up: bool  # its manifest is ours to make, so plain layers may be compressed on the way
        far: bool  # whether it takes a while to answer

        def __enter__(self) -> Self: ...
        def __exit__(self, *_: object) -> None: ...

        def manifest(self, descriptor: Descriptor | None = None) -> tuple[Descriptor, bytes]:
            """A manifest or index that an index holds, or (None) what the place names. Raises NotFound."""

        def blob(self, descriptor: Descriptor, start: int = 0) -> Chunks:
            """A blob's bytes from `start` on. Raises NotFound."""

        def signatures(self, descriptor: Descriptor | None = None) -> tuple[bytes, ...]:
            """Simple signatures of a manifest that an index holds, or (None) of what the place names."""

        def doubted(self) -> bool:
            """Hear that blobs were wrong. Whether they may come from elsewhere: then all is to be asked for anew."""

        def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
            """Repositories that have the blob, from which a registry could take it itself."""

        def noted(self, descriptor: Descriptor, where: Reference) -> None:
            """Hear that a repository has the blob."""

    class Destination(Protocol):
        """Where an image goes. `put`s may run at once, unless `serial`."""

        name: str
        formats: tuple[str, ...]  # what it can hold: "oci", "docker"
        packed: bool  # whether layers should be compressed here
        serial: bool  # takes one blob at a time
        exact: bool  # whether a manifest stays as it is
        far: bool  # whether it takes a while to answer
        digest: Digest | None  # of what its name says that it is to be
        signable: bool  # whether it can hold simple signatures
        words: tuple[str, str, str]  # that work on a layer began, that it ended, that it was needless

        def __enter__(self) -> Self: ...
        def __exit__(self, *_: object) -> None: ...

        def look(self) -> None:
            """Learn at once what is there, as far as that is possible, while the source is asked for the manifest."""

        def has(self, descriptor: Descriptor) -> bool:
            """Whether the blob is there already."""

        def at_hand(self, descriptor: Descriptor) -> bool:
            """Whether the blob is known to be there without asking anybody."""

        def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
            """As a source's."""

        def noted(self, descriptor: Descriptor, where: Reference) -> None:
            """As a source's."""

        def known(self, diff_id: Digest, media_type: str) -> Descriptor | None:
            """The layer `diff_id` in the form `media_type`, if it is there already."""

        def put(self, descriptor: Descriptor, opened: Opened, origins: Sequence[Reference]) -> str:
            """Take a blob. Returns what to say of it if that is not words[1]. Raises Corrupt if it is not right."""

        def adopt(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
            """Take a blob whose digest is not known beforehand. Returns its descriptor."""

        def mistaken(self) -> bool:
            """Whether it refused a manifest for want of what it said it has; it will look from now on."""

        def put_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
            """Take a manifest that an index, still to come, holds."""

        def finish(self, descriptor: Descriptor, raw: bytes) -> None:
            """Take the manifest or index that the place's name then stands for; the image is whole."""

        def sign(self, signatures: Iterable[bytes], descriptor: Descriptor | None = None) -> None:
            """Take, at last, the signatures of a manifest that an index holds, or (None) of what it finished with."""


class Silent:
    """A Progress that tells nobody."""

    def start(self, key: str, text: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, key: str, n: int) -> None:
        """Say nothing."""

    def done(self, key: str, text: str) -> None:
        """Say nothing."""


class Place:
    """What most places have in common."""

    made_up = False
    formats: tuple[str, ...] = ("oci", "docker")
    packed = True
    serial = False
    exact = True
    far = False
    signable = False
    digest: Digest | None = None
    words = ("Copying", "Copied", "Already exists")
    name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def signatures(self, descriptor: Descriptor | None = None) -> tuple[bytes, ...]:
        """There are none."""
        del descriptor
        return ()

    def sign(self, signatures: Iterable[bytes], descriptor: Descriptor | None = None) -> None:
        """Nobody asks what is not `signable`."""

    def doubted(self) -> bool:
        """There is nowhere else."""
        return False

    def mistaken(self) -> bool:
        """It never is."""
        return False

    def origins(self, descriptor: Descriptor) -> tuple[Reference, ...]:
        """Nowhere that a registry could reach."""
        del descriptor
        return ()

    def noted(self, descriptor: Descriptor, where: Reference) -> None:
        """Forget it."""

    def look(self) -> None:
        """There is nothing that could be learnt at once."""

    def at_hand(self, descriptor: Descriptor) -> bool:
        """Nobody knows without asking."""
        del descriptor
        return False

    def known(self, diff_id: Digest, media_type: str) -> Descriptor | None:
        """Nothing is known."""
        del diff_id, media_type
        return None


@contextmanager
def reading(source: Source, layer: Descriptor, start: int = 0) -> Generator[Iterable[bytes]]:
    """A layer's chunks from byte `start` on. Raises NotFound: of a foreign one, with where it is said to be."""
    try:
        with source.blob(layer, start) as chunks:
            yield chunks
    except NotFound as error:
        if not layer.urls:
            raise
        hint = f"it is said to be at {layer.urls[0]}; what an image names is not fetched"
        raise NotFound(f"the layer {layer.digest} is kept elsewhere", where=source.name, hint=hint) from error


def anew(source: Source, work: Callable[[], Done], destination: Destination | None = None) -> Done:
    """What `work` gives, done again where the source was wrong and has another place to read from.

    And once more where the destination took what it lacks for there. Raises what `work` raises.
    """
    while True:
        try:
            return work()
        except VelociError as error:
            again = isinstance(error, Corrupt) and source.doubted()
            if not again and not (destination and destination.mistaken()):
                raise


def drain(chunks: Iterable[bytes]) -> None:
    """Read to the end."""
    for _chunk in chunks:
        pass


@contextmanager
def given(data: bytes, start: int = 0) -> Generator[Iterator[bytes]]:
    """Bytes as the blob that they are."""
    yield iter((data[start:],))


@contextmanager
def kept(file: int, start: int = 0) -> Generator[Iterator[bytes]]:
    """An open file as the blob that it holds; it stays open."""
    yield pieces(file, start)


def pieces(file: int, at: int) -> Iterator[bytes]:
    """An open file's bytes from byte `at` on. Raises OSError."""
    import os

    while chunk := os.pread(file, CHUNK, at):
        yield chunk
        at += len(chunk)
