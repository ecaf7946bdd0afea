"""`veloci digest`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.transport.place import Source


def digest(
    name: str, /, *, full_ref: bool = False, platform: str | None = None, quiet: bool = False, registry: RegistryOptions
) -> int:
    """Print the digest of what a name stands for: a manifest, or an index of several.

    NAME is a place as for `veloci copy`: docker://HOST[:PORT]/NAME[:TAG], oci:DIRECTORY[:NAME], …; without
    a kind it is in the local store.

    --full-ref          print REPOSITORY@DIGEST
    --platform OS/ARCH  of an index, the digest of the image for this platform
    -q, --quiet         print nothing: the exit status says whether it is there
    """
    from veloci.cli.output import show
    from veloci.cli.sessions import session, source
    from veloci.spec.platform import parse
    from veloci.transport.select import select

    opened = session(registry)
    with source(name, opened) as place:
        found = select(place, *place.manifest(), parse(platform))[0].digest if platform else _digest(place)
        reference = place.origins(place.manifest()[0])[:1] if full_ref else ()
    if not quiet:
        whole = [f"{each.registry}/{each.repository}@" for each in reference]
        show(f"{''.join(whole)}{found}\n")
    return 0


def _digest(place: Source) -> str:
    """The digest of what a place names; of a registry's it is asked for alone. Raises NotFound."""
    from veloci.transport.registry import RegistryPlace

    found = place.repository.resolve() if isinstance(place, RegistryPlace) else None
    return (found or place.manifest()[0]).digest
