"""What the commands share that change an image: read it from a place, let it be changed, write it to a place."""

from __future__ import annotations

from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from veloci.cli.sessions import RegistryOptions
    from veloci.registry.session import Session
    from veloci.spec.image import Descriptor
    from veloci.transport.edited import Edited
    from veloci.transport.names import Places
    from veloci.transport.place import Destination, Source


class WriteOptions(Document):
    """Where a changed image goes.

    -t, --to PLACE           write the image there, in any place (default: where it was)
    --platform OS/ARCH       of an index, the image for this platform
    -q, --quiet              print nothing
    """

    to: str | None = None
    platform: str | None = None
    quiet: bool = False


class Way:
    """From where to where: the places by name, and who we are at registries."""

    def __init__(self, registry: RegistryOptions) -> None:
        from veloci.cli.copy import found
        from veloci.engine.engine import Engine
        from veloci.transport.names import Places

        self.engine, self._registry = Engine(), registry
        self._session: Session | None = None
        self.places: Places = Places(self.engine, lambda name: found(self.engine, name))

    def opened(self, image: str, platform: str | None = None) -> Edited:
        """The image to be changed. Raises NotFound, InvalidInput."""
        from veloci.engine.tasks import spread
        from veloci.spec.platform import parse
        from veloci.transport.edited import edited

        return edited(self.source(image), parse(platform) if platform else None, spread=spread)

    def source(self, place: str) -> Source:
        """The place to read from. Raises InvalidInput, NotFound."""
        return self.places.source(place, self.session(place))

    def destination(self, place: str, more: Sequence[str] = ()) -> Destination:
        """The place to write to. more: further names there. Raises InvalidInput, HostError."""
        return self.places.destination(place, self.session(place), more=more)

    def session(self, place: str) -> Session | None:
        """What speaks to registries, if `place` is at one: else its import would be time lost. Raises InvalidInput."""
        if self._session is None and place.startswith("docker://"):
            from veloci.cli.sessions import session

            self._session = session(self._registry)
        return self._session

    def written(self, source: Edited, to: str, *, quiet: bool, more: Sequence[str] = ()) -> Descriptor:
        """Bring the changed image to the place `to`; says its digest unless quiet."""
        from veloci.cli.progress import progress
        from veloci.engine.tasks import parallel
        from veloci.transport.copy import copy

        target = self.destination(to, more)
        with progress(quiet=True) as told, source, target:
            done = copy(source, target, progress=told, parallel=parallel, stay_open=True)
        if not quiet:
            print(f"{to}: digest: {done.digest} size: {done.size}")
        return done


def changed(image: str, change: Callable[[Edited], None], written: WriteOptions, registry: RegistryOptions) -> int:
    """Let `change` change the image, and write it where it shall go. Returns the exit status."""
    from veloci.transport.home import home

    way = Way(registry)
    source = way.opened(image, written.platform)
    try:
        to, more = (written.to, ()) if written.to else home(image, source.base)
        change(source)
    except BaseException:
        source.__exit__()
        raise
    way.written(source, to, quiet=written.quiet, more=more)
    return 0


def copied(
    source: str,
    destination: str | None,
    registry: RegistryOptions,
    *,
    all: bool = False,
    format: str | None = None,
    compress: str | None = None,
    quiet: bool = False,
) -> int:
    """`veloci copy` with the same registry options for both sides; destination: None is where the image is."""
    from veloci.cli.copy import copy
    from veloci.transport.home import home

    more: tuple[str, ...] = ()
    if destination is None:
        with Way(registry).source(source) as opened:
            destination, more = home(source, opened)

    return copy(
        source,
        destination,
        all=all,
        format=format,
        compress=compress,
        quiet=quiet,
        additional_tag=more,
        authfile=registry.authfile,
        cert_dir=registry.cert_dir,
        src_tls_verify=registry.tls_verify,
        dest_tls_verify=registry.tls_verify,
        **_logins(registry, "src_", source),
        **_logins(registry, "dest_", destination),
    )


def _logins(registry: RegistryOptions, side: str, place: str) -> dict[str, Any]:
    """The options of `veloci copy` that say who we are at one side, if that is a registry."""
    if not place.startswith("docker://"):
        return {}
    values = {"creds": registry.creds, "no_creds": registry.no_creds, "registry_token": registry.registry_token}
    return {f"{side}{name}": value for name, value in values.items()}
