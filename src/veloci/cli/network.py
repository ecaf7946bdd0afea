"""`veloci network`: docker's networks, and bridges, namespaces and wires for a container that is started by hand."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from veloci.network.networks import Networks

_LIST = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_FILTERS = "dangling, driver, id, label, name, scope, type"


# --- by hand


def bridge(name: str, /, *, address: str | None = None, rm: bool = False) -> None:
    """Make a bridge and set it up.

    --address CIDR  the host's own address on it, as in 10.200.0.1/24
    --rm            remove the bridge
    """
    from veloci.errors import InvalidInput
    from veloci.network import wires

    if rm and address:
        raise InvalidInput("--rm removes a bridge, --address is for a new one", where="--address")
    if rm:
        wires.remove_bridge(name)
    else:
        wires.make_bridge(name, address=address)
    print(name)


def namespace(name: str, /, *, rm: bool = False) -> None:
    """Make a network namespace and print its path, for config.json's linux.namespaces or `ip netns exec NAME`.

    --rm  remove it; processes that are in it keep it
    """
    from veloci.network import namespace as namespaces
    from veloci.network import wires

    path = namespaces.named(name)
    if rm:
        wires.remove_namespace(path)
    else:
        namespaces.pin(path)
    print(path)


def attach(
    bridge: str,
    namespace: str,
    /,
    *,
    address: str | None = None,
    gateway: str | None = None,
    interface: str = "eth0",
) -> None:
    """Lay a wire from a bridge into a namespace, with an address and a default route.

    NAMESPACE is a name that `veloci network namespace` or `ip netns` made, or a path (/proc/PID/ns/net).

    --address CIDR    the namespace's address, as in 10.200.0.2/24
    --gateway IP      where its default route goes; '' for none (default: the bridge's own address)
    --interface NAME  the name of its end (default: eth0)
    """
    from veloci.errors import InvalidInput
    from veloci.network import wires

    if not address:
        raise InvalidInput("needs an address", where="--address", hint="--address 10.200.0.2/24")
    wires.connect(bridge, _path(namespace), address=address, gateway=gateway, interface=interface)


def detach(bridge: str, namespace: str, /, *, interface: str = "eth0") -> None:
    """Take the wire between a bridge and a namespace away.

    --interface NAME  the name of the namespace's end (default: eth0)
    """
    from veloci.network import wires

    wires.disconnect(bridge, _path(namespace), interface=interface)


def show(namespace: str | None = None, /, *, format: str | None = None) -> None:
    """Show links, addresses and routes of a namespace, or of this host.

    --format table|json  a table for people (default), or one JSON document
    """
    from veloci.cli.output import show as out
    from veloci.cli.output import table
    from veloci.errors import InvalidInput
    from veloci.network import wires

    if format not in (None, "table", "json"):
        raise InvalidInput(f"no format {format!r}", where="--format", hint="table or json")
    found = wires.described(_path(namespace) if namespace else None)
    if format == "json":
        from veloci.spec.document import dumps

        out(dumps(found, indent=2).decode() + "\n")
        return
    links = [
        [
            link["name"],
            link["kind"] or "-",
            "up" if link["up"] else "down",
            str(link["mtu"]),
            link["mac"] or "-",
            link["master"] or "-",
            ", ".join(link["addresses"]) or "-",
        ]
        for link in found["links"]
    ]
    routes = [
        [each["destination"], each["gateway"] or "-", each["link"], each["source"] or "-"] for each in found["routes"]
    ]
    out(table(["LINK", "KIND", "STATE", "MTU", "MAC", "BRIDGE", "ADDRESSES"], links))
    if routes:
        out("\n" + table(["ROUTE", "GATEWAY", "LINK", "SOURCE"], routes))


def _path(name: str) -> str:
    from veloci.network.namespace import named

    return name if "/" in name else named(name)


# --- docker's


def create(
    name: str,
    /,
    *,
    subnet: str | None = None,
    gateway: str | None = None,
    internal: bool = False,
    label: tuple[str, ...] = (),
    driver: str = "bridge",
) -> None:
    """Create a network and print its ID; its bridge is there while containers use it.

    --subnet CIDR      its addresses, as in 10.99.0.0/24 (default: a range that nothing here uses)
    --gateway IP       the host's address in it (default: the first one)
    --internal         without a way out
    --label KEY=VALUE  a label; may be repeated
    -d, --driver NAME  bridge is the only one
    """
    from veloci.errors import InvalidInput, Unsupported

    if driver != "bridge":
        raise Unsupported(f"no network driver {driver!r}", where="--driver", hint="--driver bridge")
    if gateway and not subnet:
        raise InvalidInput("a gateway needs its subnet", where="--gateway", hint="add --subnet, as in 10.99.0.0/24")
    labels = {key: value for key, _, value in (each.partition("=") for each in label)}
    print(_networks().create(name, subnet=subnet, gateway=gateway, internal=internal, labels=labels).id)


def ls(*, filter: tuple[str, ...] = (), format: str | None = None, no_trunc: bool = False, quiet: bool = False) -> None:
    """List networks.

    -f, --filter KEY=VALUE  only those with this name, id, label, driver, scope or type; may be repeated
    --format TEMPLATE       a Go template, `table TEMPLATE` or json
    --no-trunc              whole IDs
    -q, --quiet             IDs only
    """
    from veloci.cli.output import formatted
    from veloci.cli.output import show as out
    from veloci.engine.networks import described

    chosen = _filtered(described(_networks()), filter)
    items = [
        {
            "CreatedAt": each["Created"],
            "Driver": each["Driver"],
            "ID": each["Id"] if no_trunc else each["Id"][:12],
            "IPv4": "true",
            "IPv6": "false",
            "Internal": str(each["Internal"]).lower(),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(each["Labels"].items())),
            "Name": each["Name"],
            "Scope": each["Scope"],
        }
        for each in chosen
    ]
    if quiet and format is None:
        format = "{{.ID}}"
    out(formatted(items, format, _LIST, headings={"ID": "NETWORK ID"}))


def inspect(network: str, /, *networks: str, format: str | None = None) -> int:
    """Show everything about networks, as JSON.

    -f, --format TEMPLATE  a Go template, or json
    """
    from veloci.cli.objects import inspected
    from veloci.engine.networks import find

    store = _networks()
    return inspected((network, *networks), lambda name: find(store, name), format)


def rm(network: str, /, *networks: str, force: bool = False) -> int:
    """Remove networks that nobody uses.

    -f, --force  say nothing of a network that does not exist
    """
    from veloci.cli.objects import removed

    return removed((network, *networks), _networks().remove, force=force)


def _networks() -> Networks:
    from veloci.engine.engine import Engine

    return Engine().networks


def _filtered(found: Iterable[dict[str, Any]], filters: Iterable[str]) -> list[dict[str, Any]]:
    """Those that match: one of the values given for a key, and every key, as docker does."""
    from veloci.errors import InvalidInput

    wanted: dict[str, list[str]] = {}
    for each in filters:
        key, equals, value = each.partition("=")
        if key not in _FILTERS.split(", ") or not equals:
            raise InvalidInput(
                f"invalid filter {each!r}",
                where="--filter",
                hint=f"KEY=VALUE; a key is {_FILTERS}",
                exit_status=None if equals else 125,  # docker's, when a flag's grammar is wrong
            )
        wanted.setdefault(key, []).append(value)
    return [
        each
        for each in found
        if all((all if key == "label" else any)(_matches(each, key, value) for value in wanted[key]) for key in wanted)
    ]


def _matches(network: dict[str, Any], key: str, value: str) -> bool:
    if key == "name":
        import re

        try:
            return re.search(value, network["Name"]) is not None
        except re.error as error:
            from veloci.errors import InvalidInput

            raise InvalidInput(f"{value!r} is no regular expression: {error}", where="--filter") from None
    if key == "label":
        name, equals, text = value.partition("=")
        return name in network["Labels"] and (not equals or network["Labels"][name] == text)
    builtin = network["Name"] in ("bridge", "host", "none")
    if key == "dangling":
        return (value in ("true", "1")) == (not builtin and not network["Containers"])
    if key == "type":
        return value == ("builtin" if builtin else "custom")
    return str(network[{"id": "Id", "driver": "Driver", "scope": "Scope"}[key]]).startswith(value)
