"""`veloci login` and `veloci logout`."""

from __future__ import annotations


def login(
    registry: str = "docker.io",
    /,
    *,
    username: str | None = None,
    password: str | None = None,
    password_stdin: bool = False,
    tls_verify: bool = True,
) -> int:
    """Check a name and password at a registry, and remember them as docker does.

    They are kept in ~/.docker/config.json ($DOCKER_CONFIG), or by the credential helper that it names.

    -u, --username NAME      the name; asked for if it is missing
    -p, --password PASSWORD  the password; everyone on the host can read it here: prefer --password-stdin
    --password-stdin         read the password from standard input
    --tls-verify=false       take any certificate, and plain HTTP
    """
    from veloci.registry.credentials import Credentials, keep
    from veloci.registry.session import Session

    host = _host(registry)
    name, secret = _asked(username, password, stdin=password_stdin)
    credentials = Credentials(name, secret)
    session = Session(credentials=credentials, tls_verify=tls_verify)
    auth = session.auth(host, "")
    with session.request("GET", f"{session.origin(host)}/v2/", auth=auth, scope="", where=host):
        pass
    keep(host, credentials)
    print("Login Succeeded")
    return 0


def logout(registry: str = "docker.io", /) -> int:
    """Forget the name and password of a registry."""
    from veloci.registry.credentials import forget

    host = _host(registry)
    print(f"Removing login credentials for {host}" if forget(host) else f"Not logged in to {host}")
    return 0


def _host(text: str) -> str:
    """The registry's host and port of what the user wrote, perhaps an address. Raises InvalidInput."""
    from veloci.spec.reference import Reference

    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return "docker.io"
    if "." not in host and ":" not in host and host != "localhost":
        from veloci.errors import InvalidInput

        raise InvalidInput(f"{text!r} is not a registry's host", hint="HOST[:PORT]")
    return Reference.parse(f"{host}/x").registry


def _asked(username: str | None, password: str | None, *, stdin: bool) -> tuple[str, str]:
    """The name and the password, from options, standard input or the terminal. Raises InvalidInput."""
    import sys

    from veloci.errors import InvalidInput

    if stdin:
        if password is not None:
            raise InvalidInput("--password and --password-stdin are mutually exclusive", where="--password-stdin")
        if username is None:
            raise InvalidInput("must provide --username with --password-stdin", where="--password-stdin")
        return username, sys.stdin.readline(65536).rstrip("\r\n")
    if username is None or password is None:
        if not sys.stdin.isatty():
            raise InvalidInput(
                "cannot perform an interactive login from a non TTY device",
                hint="veloci login --username NAME --password-stdin HOST",
            )
        from getpass import getpass

        username = username or input("Username: ")
        password = password if password is not None else getpass("Password: ")
    return username, password
