"""Whom to trust at a registry, and how to show who we are: docker's and containers' `certs.d`.

A directory `certs.d/HOST[:PORT]` holds certificates of authorities (*.crt) and our own certificate
with its key (NAME.cert, NAME.key). See dockerd's documentation and containers-certs.d(5).
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

from veloci.errors import HostError, InvalidInput

ANYWHERE = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def directories() -> list[str]:
    """The directories that may have one for a host; what the user set comes first."""
    home = os.environ.get("HOME", "/")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    own = [f"{config}/containers/certs.d", f"{home}/.config/containers/certs.d", f"{config}/docker/certs.d"]
    return list(dict.fromkeys([*own, *ANYWHERE]))


def found(host: str, chosen: str | None = None) -> list[str]:
    """The files for a host, `HOST[:PORT]`; of the directory `chosen` (--cert-dir) if it is not None.

    Raises InvalidInput for a certificate without its key, or a key without its certificate; HostError.
    """
    names = ("docker.io", host) if host == "registry-1.docker.io" else (host,)
    folders = [chosen] if chosen is not None else [f"{base}/{name}" for base in directories() for name in names]
    for folder in folders:
        try:
            entries = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if chosen is None:
                continue
            raise HostError("read certificates", error, where=folder) from error
        if chosen is not None or entries:
            _check_pairs(folder, entries)
            return [f"{folder}/{entry}" for entry in entries if entry.endswith((".crt", ".cert"))]
    return []


def _check_pairs(folder: str, entries: list[str]) -> None:
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind == "cert" and f"{stem}.key" not in entries:
            hint = "an authority's certificate is named *.crt"
            raise InvalidInput(f"missing key {stem}.key for client certificate {entry}", where=folder, hint=hint)
        if kind == "key" and f"{stem}.cert" not in entries:
            raise InvalidInput(f"missing client certificate {stem}.cert for key {entry}", where=folder)


def context(files: list[str], *, verify: bool) -> ssl.SSLContext:
    """What TLS trusts: the system's authorities and those in `files`; what it shows: the client certificates in them.

    verify: False trusts everybody. Raises InvalidInput for a file that is no certificate or key.
    """
    if verify and not files:
        return _usual(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    made = _made(verify=verify)
    for path in files:
        try:
            if path.endswith(".crt"):
                made.load_verify_locations(path)
            else:
                made.load_cert_chain(path, f"{path.removesuffix('.cert')}.key", password=lambda: b"")
        except ssl.SSLError as error:
            raise InvalidInput(f"not a usable certificate: {_reason(error)}", where=path) from None
        except OSError as error:
            raise HostError("read a certificate", error, where=path) from error
    return made


@lru_cache(maxsize=1)
def _usual(*_: str | None) -> ssl.SSLContext:
    """The authorities of the system or of OpenSSL's variables, which take 20 ms to read, for all that need no more."""
    return _made(verify=True)


def _made(*, verify: bool) -> ssl.SSLContext:
    if not verify:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return trusting
    made = ssl.create_default_context()
    # As Go's programs, on every Python: an authority need not say what it may sign, and any certificate may be one.
    made.verify_flags = (made.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    return made


def _reason(error: ssl.SSLError) -> str:
    return str(error.reason or error).lower().replace("_", " ")
