"""`veloci catalog`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it


def catalog(host: str, /, *, full: bool = False, registry: RegistryOptions) -> int:
    """List the repositories of a registry, one a line, as far as it tells.

    HOST is HOST[:PORT].

    --full  whole names, with the registry's
    """
    from veloci.cli import sessions
    from veloci.cli.output import show
    from veloci.registry.listing import catalog

    name = sessions.registry(host)
    for repository in catalog(sessions.session(registry), name):
        show(f"{name}/{repository}\n" if full else f"{repository}\n")
    return 0
