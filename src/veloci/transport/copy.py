"""From any place to any place: only what is missing travels, and bytes change only where they must."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.image.convert import FORMATS
from veloci.spec import media
from veloci.spec.image import Index
from veloci.transport.job import Job
from veloci.transport.place import Silent, anew
from veloci.transport.select import DEPTH, select
from veloci.transport.signatures import Signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from veloci.spec.image import Descriptor
    from veloci.spec.platform import Platform
    from veloci.transport.place import Destination, Progress, Source


def copy(
    source: Source,
    destination: Destination,
    *,
    format: str | None = None,
    all: bool = False,
    only_index: bool = False,
    platform: Platform | None = None,
    compress: tuple[str, int | None] | None = None,
    preserve: bool = False,
    progress: Progress | None = None,
    parallel: Callable[..., Iterable[Descriptor]] = map,
    spread: Callable[..., Iterable[bytes]] = map,
    stay_open: bool = False,
    once: bool = False,
    unsigned: bool = False,
) -> Descriptor:
    """Copy an image. Returns what the destination now names. The places are closed, unless they are to `stay_open`.

    format: "oci" or "docker"; None keeps what it is, as far as the destination can hold it. all: every image
    of an index; only_index: the index alone, whose images must be there already; else the image for
    `platform` (None: this machine's). compress: the layers' compression, "gzip", "zstd" or "" for none, and
    its level; at a level every layer is compressed anew, with None those that are compressed otherwise.
    preserve: fail rather than change a digest. parallel: a map for the layers. spread: one for a layer's chunks.
    once: also where the source has
    another place to read from, the caller begins anew (place.anew), not this function. unsigned: leave simple
    signatures behind, which else go along with what they sign, unchanged, or are an error.
    Raises what the places raise; InvalidInput for a format or artifact that cannot be.
    """

    def work(job: Job) -> Descriptor:
        descriptor, raw = _begun(source, destination, job.parallel)
        # Here the digest of an index stands for the image that is taken of it, as with pull.
        known = () if destination.far else (descriptor.digest,)
        signatures = Signatures(source, destination, lost=unsigned)
        if not media.is_index(descriptor.media_type) or not (all or only_index):
            chosen, chosen_raw = select(source, descriptor, raw, platform)
            job.signed = signatures.take(chosen if chosen.digest != descriptor.digest else None)
            descriptor, raw = job.image(chosen, chosen_raw)
        elif all:
            job.signed = signatures.take_all(Index.decode(raw, name=f"index {descriptor.digest}").manifests)
            descriptor, raw = job.index(descriptor, raw, DEPTH)
        else:
            signatures.take()
        if destination.digest not in (None, descriptor.digest, *known):
            hint = "leave the digest out, or copy what has it: of an index --all"
            raise InvalidInput(
                f"what is copied is {descriptor.digest}, not what the name says", where=destination.name, hint=hint
            )
        destination.finish(descriptor, raw)
        signatures.give()
        return descriptor

    def done() -> Descriptor:
        if format is not None and format not in destination.formats:
            allowed = " or ".join(destination.formats if format in FORMATS else FORMATS)
            raise InvalidInput(f"{destination.name} cannot hold the format {format!r}", where="--format", hint=allowed)
        job = Job(
            source,
            destination,
            format=format,
            compress=compress,
            preserve=preserve,
            progress=progress or Silent(),
            parallel=map if destination.serial else parallel,
            spread=spread,
        )
        return work(job) if once else anew(source, lambda: work(job), destination)

    if stay_open:
        return done()
    with source, destination:
        return done()


def _begun(
    source: Source, destination: Destination, parallel: Callable[..., Iterable[Any]]
) -> tuple[Descriptor, bytes]:
    """What the source names, asked for while the destination is looked at if both take a while to answer."""
    steps: tuple[Callable[[], Any], ...] = source.manifest, destination.look
    found, _ = parallel(_done, steps) if source.far and destination.far else map(_done, steps)
    first: tuple[Descriptor, bytes] = found
    return first


def _done(step: Callable[[], Any]) -> Any:
    return step()
