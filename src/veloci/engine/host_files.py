"""/etc/hosts, hostname and resolv.conf of a container, which are bound into it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.record import Record


def write(record: Record, lease: dict[str, Any] | None, data: str) -> None:
    """Write them in `data`, the container's directory. lease: of its network, None if it has none of ours."""
    from veloci.bundle.hostfiles import hosts, resolv

    if "network" in record.joined:
        return  # it has the files of the container whose network it shares
    gateway = (lease or {}).get("gateway") or "127.0.0.1"
    pairs = (entry.partition(":")[::2] for entry in record.hosts)
    names = [(gateway if address == "host-gateway" else address, name) for name, address in pairs]
    if lease:
        names.append((lease["address"], record.hostname))
    base = _text("/etc/hosts") if record.network == "host" else ""
    resolver = resolv(
        _text("/etc/resolv.conf"),
        servers=record.dns,
        search=record.dns_search,
        options=record.dns_options,
        own_network=record.network != "host",
    )
    texts = {"hosts": hosts(names, base=base), "hostname": record.hostname + "\n", "resolv.conf": resolver}
    for name, text in texts.items():
        with open(f"{data}/{name}", "w") as file:  # in place: it is bound into the container
            file.write(text)


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
