"""`veloci login` and `veloci logout`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.registry.credentials import Credentials


def login(
    registry: str = "docker.io",
    /,
    *,
    username: str | None = None,
    password: str | None = None,
    password_stdin: bool = False,
    get_login: bool = False,
    authfile: str | None = None,
    cert_dir: str | None = None,
    tls_verify: bool | None = None,
) -> int:
    """Check a name and password at a registry, and remember them as docker does.

    They are kept in FILE, $REGISTRY_AUTH_FILE or ~/.docker/config.json ($DOCKER_CONFIG), or by the
    credential helper that it names. Without a name, the login that is known already is checked. A
    registry that gives an identity token for the password has that kept instead.

    -u, --username NAME      the name; asked for if it is missing
    -p, --password PASSWORD  the password; everyone on the host can read it here: prefer --password-stdin
    --password-stdin         read the password from standard input
    --get-login              print the name that is known, and do no more
    --authfile FILE          where names and passwords are
    --cert-dir DIR           the directory with certificates *.crt, *.cert and *.key, instead of certs.d
    --tls-verify=false       take any certificate, and plain HTTP
    """
    from veloci.cli import sessions

    host = sessions.registry(registry)
    if get_login:
        print(_known(host, authfile).name)
        return 0
    session = sessions.session(sessions.RegistryOptions(authfile=authfile, cert_dir=cert_dir, tls_verify=tls_verify))
    credentials, new = _asked(host, username, password, authfile, stdin=password_stdin)
    auth = session.login(session.endpoint(host), credentials)
    with session.request("GET", f"{auth.origin}/v2/", auth=auth, scope="", where=host):
        pass
    if new:
        from veloci.registry.credentials import keep

        place = keep(host, credentials, authfile=authfile, identity=auth.identity)
        if "/" in place:
            sessions.warn(f"the login is kept unencrypted in {place}; credsStore there names a helper that does better")
    print("Login Succeeded")
    return 0


def logout(registry: str = "docker.io", /, *, all: bool = False, authfile: str | None = None) -> int:
    """Forget the name and password of a registry, in every file where they are looked for.

    -a, --all        of every registry
    --authfile FILE  where names and passwords are
    """
    from veloci.cli.sessions import registry as host_of
    from veloci.registry.credentials import forget, known

    if all:
        for entry in known(authfile=authfile):
            forget(host_of(entry), authfile=authfile)
        print("Removed login credentials for all registries")
        return 0
    host = host_of(registry)
    there = forget(host, authfile=authfile)
    print(f"Removing login credentials for {host}" if there else f"Not logged in to {host}")
    return 0


def _known(host: str, authfile: str | None) -> Credentials:
    """The login that is known. Raises NotFound."""
    from veloci.errors import NotFound
    from veloci.registry.configuration import load
    from veloci.registry.credentials import find

    found = find(host, authfile=authfile, helpers=load().helpers)
    if found is None:
        raise NotFound(f"not logged in to {host}", hint=f"veloci login {host}")
    return found


def _asked(
    host: str, username: str | None, password: str | None, authfile: str | None, *, stdin: bool
) -> tuple[Credentials, bool]:
    """Name and password, from options, standard input, what is known or the terminal, and whether they are new.

    Raises InvalidInput.
    """
    import sys

    from veloci.cli.sessions import warn
    from veloci.errors import InvalidInput, NotFound
    from veloci.registry.credentials import Credentials

    if stdin:
        if password is not None:
            raise InvalidInput("--password and --password-stdin are mutually exclusive", where="--password-stdin")
        if username is None:
            raise InvalidInput("must provide --username with --password-stdin", where="--password-stdin")
        return Credentials(username, sys.stdin.readline(65536).rstrip("\r\n")), True
    if password is not None:
        warn("--password shows the password to everyone on this host; use --password-stdin")
    if username is None and password is None:
        try:
            found = _known(host, authfile)
        except NotFound:
            pass
        else:
            print(f"Authenticating with existing credentials for {host}", flush=True)
            return found, False
    if username is None or password is None:
        if not sys.stdin.isatty():
            raise InvalidInput(
                "cannot perform an interactive login from a non TTY device",
                hint="veloci login --username NAME --password-stdin HOST",
            )
        from getpass import getpass

        username = username or input("Username: ")
        password = password if password is not None else getpass("Password: ")
    return Credentials(username, password), True
