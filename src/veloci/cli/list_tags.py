"""`veloci list-tags`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.reference import Reference


def list_tags(
    name: str,
    /,
    *,
    format: str | None = None,
    quiet: bool = False,
    retry_times: int = 0,
    registry: RegistryOptions,
) -> int:
    """List all tags of a repository, or the names of the images in an archive or layout, as JSON.

    NAME is docker://HOST[:PORT]/REPOSITORY, which may be written without docker://, or
    docker-archive:FILE, oci:DIRECTORY, oci-archive:FILE.

    -f, --format TEMPLATE  a Go template: .Repository .Tags, or json: all in one line
    -q, --quiet            one tag a line, no more
    --retry-times N        try so often again when the registry cannot be reached
    """
    from veloci.cli.copy import retried
    from veloci.cli.output import show
    from veloci.cli.template import Template
    from veloci.cli.template_print import Record
    from veloci.spec.document import dumps

    found = retried(lambda: _found(name, registry), retry_times)
    if quiet:
        show("".join(f"{tag}\n" for tag in found["Tags"]))
    elif format in (None, "", "json"):
        show(dumps(found, indent=0 if format else 4).decode() + "\n")
    else:
        assert format
        show(Template(format).render(Record(found)) + "\n")
    return 0


def _found(name: str, registry: RegistryOptions) -> dict[str, list[str]]:
    """What is printed, in skopeo's shape."""
    from veloci.cli.sessions import session
    from veloci.registry.client import Repository

    if name.startswith(("docker-archive:", "oci:", "oci-archive:")):
        from veloci.transport.listing import names

        return {"Tags": names(name)}
    reference = repository(name)
    tags = list(Repository(reference, session=session(registry)).tags())
    return {"Repository": f"{reference.registry}/{reference.repository}", "Tags": tags}  # type: ignore[dict-item]


def repository(name: str) -> Reference:
    """The repository of a name with or without docker://. Raises InvalidInput for a tag, a digest, another place."""
    from veloci.cli.sessions import reference
    from veloci.errors import InvalidInput

    found = reference(name)
    if found.tag or found.digest:
        raise InvalidInput("no tag or digest allowed in reference", where=name, hint=found.familiar_name())
    return found
