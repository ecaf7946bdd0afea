"""The engine's networks, and how docker's API describes them (its Network object)."""

from __future__ import annotations

from veloci.engine.record import WORDS
from veloci.network.networks import DEFAULT, Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.network.store import Network


def told(engine: Engine) -> Networks:
    """The engine's networks, of which the journal of events is told."""
    from veloci.engine.journal import network

    return Networks(f"{engine.root}/networks", lambda action, made: network(engine, action, made))


def described(networks: Networks, *, names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Every network, by name: ours, and `host` and `none`, which are words and no files.

    names: container ID to its name; without it the ID stands for the name.
    """
    networks.default()
    found = [document(networks, network, names=names) for network in networks.all()]
    found += [_word(name) for name in WORDS]
    return sorted(found, key=lambda each: str(each["Name"]))


def find(networks: Networks, name: str, *, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One network by its name, ID or the start of its ID. Raises NotFound, Conflict."""
    for word in map(_word, WORDS):
        if name == word["Name"] or (len(name) >= 12 and word["Id"].startswith(name)):
            return word
    return document(networks, networks.get(name), names=names)


def document(networks: Networks, network: Network, *, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A network of ours and who is connected, in the shape of docker's API 1.47."""
    containers = {
        lease["container"]: {
            "Name": (names or {}).get(lease["container"], lease["container"]),
            "EndpointID": _identity(f"{network.id} {lease['container']} {lease['veth']}"),
            "MacAddress": lease["mac"],
            "IPv4Address": f"{lease['address']}/{lease['prefix']}",
            "IPv6Address": "",
        }
        for lease in networks.leases(network.name)
    }
    return {
        **_shape(network.name, network.id, "bridge", network.created),
        "IPAM": {
            "Driver": "default",
            "Options": None if network.name == DEFAULT else {},
            "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}],
        },
        "Internal": network.internal,
        "Containers": containers,
        "Options": {"com.docker.network.bridge.name": network.link},
        "Labels": dict(network.labels),
    }


def _shape(name: str, identity: str, driver: str, created: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Id": identity,
        "Created": created,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


def _word(name: str) -> dict[str, Any]:
    driver, identity = WORDS[name]
    return _shape(name, identity, driver, "1970-01-01T00:00:00Z")


def _identity(text: str) -> str:
    """64 hexadecimal digits that depend on `text` alone."""
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()
