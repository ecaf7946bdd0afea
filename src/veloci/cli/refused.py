"""Options of skopeo's that we know and refuse: what each would have to do, and what there is instead."""

from __future__ import annotations

from veloci.errors import InvalidInput

_COMMANDS = ("copy", "sync", "push", "pull", "inspect", "list-tags", "delete", "artifact copy")
_SIGNED = "images are not signed here", "cosign signs what is at a registry, copy --referrers takes it along"
_SEALED = "layers are not encrypted here", "copy takes encrypted layers as they are"
_CREDS = "is said with the other half", "--creds USER:PASSWORD, or --src-creds and --dest-creds of copy"
_REFUSED = {
    "--sign-by": _SIGNED,
    "--sign-by-sigstore": _SIGNED,
    "--sign-by-sigstore-private-key": _SIGNED,
    "--sign-by-sq-fingerprint": _SIGNED,
    "--sign-identity": _SIGNED,
    "--sign-passphrase-file": _SIGNED,
    "--encryption-key": _SEALED,
    "--encrypt-layer": _SEALED,
    "--decryption-key": ("layers are not decrypted here", _SEALED[1]),
    "--username": _CREDS,
    "--password": _CREDS,
    "--src-username": _CREDS,
    "--src-password": _CREDS,
    "--dest-username": _CREDS,
    "--dest-password": _CREDS,
    "--dest-compress": ("is said with the kind", "--compress gzip"),
    "--dest-precompute-digests": ("is needless: what a registry has is not sent in any case", "leave it out"),
    "--policy": ("no policy is asked: nothing is verified here", "leave it out"),
    "--insecure-policy": ("no policy is asked: nothing is verified here", "leave it out"),
    "--override-arch": ("is said with the others", "--platform OS/ARCH[/VARIANT]"),
    "--override-os": ("is said with the others", "--platform OS/ARCH[/VARIANT]"),
    "--override-variant": ("is said with the others", "--platform OS/ARCH[/VARIANT]"),
}


def refusal(program: str, flag: str) -> InvalidInput | None:
    """Why a command refuses an option that skopeo's has; None for what nobody has."""
    if not program.endswith(tuple(f" {command}" for command in _COMMANDS)) or flag not in _REFUSED:
        return None
    why, hint = _REFUSED[flag]
    return InvalidInput(why, where=flag, hint=hint)
