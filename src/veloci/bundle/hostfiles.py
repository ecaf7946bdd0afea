"""The texts of /etc/hosts, /etc/hostname and /etc/resolv.conf in a container. Pure."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(names: Sequence[tuple[str, str]] = (), *, base: str = "") -> str:
    """/etc/hosts: `base` (the host's own for `--network host`) or the usual lines, then `names` as (address, name)."""
    lines = base or _HOSTS
    if not lines.endswith("\n"):
        lines += "\n"
    for address, name in names:
        for word in (address, name):
            if not word or any(c.isspace() or not c.isprintable() for c in word):
                raise InvalidInput(f"{word!r} cannot stand in /etc/hosts", where="--add-host")
        lines += f"{address}\t{name}\n"
    return lines


def resolv(
    host: str,
    *,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    own_network: bool = True,
) -> str:
    """/etc/resolv.conf, from the host's text and what was asked for instead.

    own_network: the container has a network namespace of its own, where the host's loopback
    servers cannot be reached; they are left out, as docker does.
    """
    kept, found = [], list(servers)
    for line in host.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            loopback = words[1].startswith("127.") or words[1] == "::1"
            if not servers and not (own_network and loopback):
                found.append(words[1])
        elif not ((words[0] in ("search", "domain") and search) or (words[0] == "options" and options)):
            kept.append(line)
    lines = [f"nameserver {server}" for server in found]
    lines += kept
    if search and list(search) != ["."]:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(line + "\n" for line in lines)
