"""Credential helpers: programs named docker-credential-NAME that keep names and passwords.

https://github.com/docker/docker-credential-helpers#development
"""

from __future__ import annotations

from veloci.errors import Denied, InvalidInput
from veloci.spec.document import dumps, loads

PATIENCE = 60.0  # seconds for a helper to answer
_MISSING = "credentials not found"  # how every helper begins to say that it has none


def get(helper: str, server: str) -> tuple[str, str] | None:
    """The name and the secret that a helper has for `server`; the name "<token>" says that it is an identity token.

    Raises Denied when it fails: without it another's credentials could be sent (CVE-2021-41092).
    """
    answer = _run(helper, "get", server.encode())
    if answer is None:
        return None
    try:
        entry = loads(answer)
        return str(entry["Username"]), str(entry["Secret"])
    except (ValueError, KeyError, TypeError):
        raise Denied("its answer is no credentials", where=f"docker-credential-{helper}") from None


def store(helper: str, server: str, name: str, secret: str) -> None:
    """Let a helper keep a name and a secret. Raises Denied."""
    _run(helper, "store", dumps({"ServerURL": server, "Username": name, "Secret": secret}))


def erase(helper: str, server: str) -> None:
    """Let a helper forget what it has for `server`. Raises Denied."""
    _run(helper, "erase", server.encode())


def _run(helper: str, verb: str, data: bytes) -> bytes | None:
    """Run `docker-credential-HELPER VERB`. None if it has no such credentials. Raises Denied."""
    import subprocess

    program = f"docker-credential-{helper}"
    if "/" in helper or "\0" in helper:
        raise InvalidInput(f"{helper!r} is no credential helper's name")
    try:
        done = subprocess.run([program, verb], input=data, capture_output=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "took more than a minute" if isinstance(error, subprocess.TimeoutExpired) else "cannot be run"
        hint = "install it, or remove credsStore from the configuration"
        raise Denied(f"the credential helper {reason}", where=program, hint=hint) from None
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    if done.returncode and said.startswith(_MISSING):
        return None
    if done.returncode:
        raise Denied(f"the credential helper failed: {said[:200]}", where=program)
    return done.stdout
