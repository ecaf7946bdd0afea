"""`veloci delete`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.registry.session import Session


def delete(name: str, /, *names: str, only_tag: bool = False, retry_times: int = 0, registry: RegistryOptions) -> int:
    """Delete images from their registry.

    NAME is docker://HOST[:PORT]/NAME[:TAG|@DIGEST], which may be written without docker://. The manifest
    that it names goes, with every tag of it. What needs it, and the layers, are the registry's business.

    --only-tag        delete the tag and leave the manifest, where the registry can
    --retry-times N   try so often again when the registry cannot be reached
    """
    from veloci.cli.copy import retried
    from veloci.cli.main import each
    from veloci.cli.sessions import session

    opened = session(registry)
    return each(lambda text: retried(lambda: _delete(text, opened, only_tag=only_tag), retry_times), (name, *names))


def _delete(name: str, session: Session, *, only_tag: bool) -> None:
    from veloci.cli.output import show
    from veloci.cli.sessions import reference
    from veloci.errors import InvalidInput, NotFound, Unsupported
    from veloci.registry.client import Repository

    wanted = reference(name).with_default_tag()
    there = Repository(wanted, session=session)
    if only_tag:
        if wanted.digest:
            raise InvalidInput("takes a tag, no digest", where="--only-tag", hint=wanted.familiar_name())
        try:
            there.delete(str(wanted.tag))
        except (InvalidInput, Unsupported) as error:  # Debian's takes the tag for a digest that is wrong
            hint = "without --only-tag the manifest goes, with every tag of it"
            raise Unsupported(f"{wanted.registry} deletes no tag alone", where=str(wanted), hint=hint) from error
        show(f"Untagged: {wanted}\n")
        return
    found = there.resolve()
    if found is None:
        raise NotFound("manifest unknown", where=str(wanted), hint="check the name, the tag and the registry")
    there.delete(found.digest)
    show(f"Deleted: {wanted.registry}/{wanted.repository}@{found.digest}\n")
