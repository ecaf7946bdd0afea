"""`veloci registry serve`."""

from __future__ import annotations


def serve(
    *, root: str | None = None, listen: str | None = None, host: str | None = None, port: int | None = None
) -> int:
    """Serve a registry from a folder until a signal ends it.

    docker, podman, skopeo and veloci push to it and pull from it; on a loopback address they
    speak plain HTTP to it without being told to.

    --root DIR          the folder that holds its content (default: registry/ in veloci's data directory)
    --listen HOST:PORT  where to listen (default: 127.0.0.1:5000); port 0 takes any free one
    --host HOST         where to listen, alone
    --port PORT         on which port, alone
    """
    from veloci import paths
    from veloci.registry.server.serve import serve as run

    where, number = _address(listen, host, port)
    folder = root or f"{paths.data()}/registry"
    run(folder, where, number, ready=lambda at: print(f"registry: {at}, content in {folder}", flush=True))
    return 0


def _address(listen: str | None, host: str | None, port: int | None) -> tuple[str, int]:
    from veloci.errors import InvalidInput

    where, number = "127.0.0.1", "5000"
    if listen is not None:
        left, colon, right = listen.rpartition(":")
        if not colon:
            raise InvalidInput(f"{listen!r} is not HOST:PORT", where="--listen", hint="--listen 127.0.0.1:5000")
        where, number = left.strip("[]") or "0.0.0.0", right  # noqa: S104 -- as the user wrote it: ":5000"
    where = host if host is not None else where
    number = str(port) if port is not None else number
    if not (number.isascii() and number.isdecimal() and int(number) < 65536):
        raise InvalidInput(f"{number!r} is not a port", where="--listen", hint="0 to 65535")
    return where, int(number)
