"""Bridges, namespaces and the wires between them, by name: what `brctl` and `ip` are used for around a container.

Nothing is kept in files: the kernel's links are the state, so `ip` shows and removes them as well.
"""

from __future__ import annotations

import os
from errno import EEXIST

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.kernel.netlink import Netlink
from veloci.network import links, namespace
from veloci.network.addresses import Subnet, parse_address, parse_cidr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BRIDGE_HINT = "make it: veloci network bridge {} --address 10.200.0.1/24"


def make_bridge(name: str, *, address: str | None = None) -> None:
    """Make a bridge, up, with the outward link's MTU, and give the host an address on it.

    address: with its prefix, as in "10.200.0.1/24"; None gives none. Raises InvalidInput, Conflict if the
    name or the address is taken, Denied. Nothing is left after a failure.
    """
    from veloci.network.pools import outward_mtu

    _check_name(name, "bridge")
    host = _host_address(address, "--address") if address else None
    with Netlink() as net:
        if host:
            _check_unused(host[0], links.addresses(net), "this host")
        try:
            link = links.add_bridge(net, name, mtu=outward_mtu(net))
        except OSError as error:
            if error.errno == EEXIST:
                raise Conflict(f"link {name} exists already", hint=f"veloci network bridge {name} --rm") from None
            raise namespace.failure(f"make bridge {name}", error) from error
        if host:
            try:
                net.talk(links.add_address(link.index, host[0], host[1].prefix))
            except OSError as error:
                links.remove(net, name)
                raise namespace.failure(f"give bridge {name} the address {address}", error) from error


def remove_bridge(name: str) -> None:
    """Remove a bridge. Raises NotFound, InvalidInput if it is another kind of link, Denied."""
    with Netlink() as net:
        _bridge(net, name)
        try:
            links.remove(net, name)
        except OSError as error:
            raise namespace.failure(f"remove bridge {name}", error) from error


def connect(bridge: str, path: str, *, address: str, gateway: str | None = None, interface: str = "eth0") -> None:
    """Lay a wire from a bridge into the namespace at `path`: `lo` up, `interface` up, address, default route.

    address: with its prefix. gateway: "" for no default route; None takes the bridge's own address in that
    subnet, if it has one. Raises InvalidInput, NotFound, Conflict for an address or an interface that
    is there already, Denied, HostError. Nothing is left after a failure.
    """
    _check_name(interface, "interface")
    host, subnet = _host_address(address, "--address")
    netns = namespace.opened(path)
    try:
        with Netlink() as net, namespace.netlink_in(netns) as inner:
            link = _bridge(net, bridge)
            ours = [each for each in links.addresses(net) if each.index == link.index]
            _check_unused(host, ours, f"bridge {bridge}")
            _check_neighbours(host, ours)
            if links.find(inner, interface):
                raise Conflict(
                    f"namespace {path} has an interface {interface} already",
                    hint=f"name another, --interface eth1, or take it off: veloci network detach {bridge} "
                    f"{_short(path)} --interface {interface}",
                )
            if gateway is None:
                gateway = next((each.address for each in ours if 0 <= subnet.index(each.address) < subnet.size), "")
            elif gateway:
                gateway = _gateway(gateway, subnet)
            _lay(net, inner, link, netns, interface=interface, host=host, prefix=subnet.prefix, gateway=gateway)
    except OSError as error:
        raise namespace.failure(f"connect {path} to bridge {bridge}", error) from error
    finally:
        os.close(netns)


def _lay(
    net: Netlink,
    inner: Netlink,
    bridge: links.Link,
    netns: int,
    *,
    interface: str,
    host: str,
    prefix: int,
    gateway: str,
) -> None:
    name = f"veth{os.urandom(4).hex()}"
    links.add_veth(net, name, bridge=bridge, netns=netns, interface=interface)
    try:
        end = links.find(inner, interface)
        index = end.index if end else 0
        inner.talk(links.set_up(1), links.set_up(index), links.add_address(index, host, prefix))
        if gateway:
            try:
                inner.talk(links.add_default_route(index, gateway))
            except OSError as error:
                if error.errno != EEXIST:
                    raise
                raise Conflict(
                    "the namespace has a default route already", where=f"--gateway {gateway}", hint="--gateway ''"
                ) from None
    except BaseException:
        links.remove(net, name)
        raise


def disconnect(bridge: str, path: str, *, interface: str = "eth0") -> None:
    """Take a wire away, both ends. Raises NotFound if `interface` of that namespace is not on that bridge, Denied."""
    netns = namespace.opened(path)
    try:
        with Netlink() as net, namespace.netlink_in(netns) as inner:
            link = _bridge(net, bridge)
            end = links.find(inner, interface)
            far = links.by_index(net, end.peer) if end and end.kind == "veth" else None
            if end is None or far is None or far.kind != "veth" or far.peer != end.index or far.master != link.index:
                raise NotFound(
                    f"namespace {path} has no interface {interface} on bridge {bridge}",
                    hint=f"veloci network show {_short(path)}",
                )
            links.remove(net, far.name)
    except OSError as error:
        raise namespace.failure(f"disconnect {path} from bridge {bridge}", error) from error
    finally:
        os.close(netns)


def remove_namespace(path: str) -> None:
    """Unpin the namespace; unless a process is in it, its wires are gone when this returns.

    The kernel alone would take them away a moment later. Raises NotFound, InvalidInput, Denied, Conflict.
    """
    netns = namespace.opened(path)
    try:
        if not _inhabited(netns):
            with namespace.netlink_in(netns) as inner:
                for link in links.all_links(inner):
                    if link.kind == "veth":
                        links.remove(inner, link.name)
    except OSError as error:
        raise namespace.failure(f"remove namespace {path}", error) from error
    finally:
        os.close(netns)
    namespace.unpin(path)


def _inhabited(netns: int) -> bool:
    """Whether a process is in the namespace."""
    wanted = os.fstat(netns).st_ino
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino == wanted:
                    return True
            except OSError:  # it has ended
                continue
    return False


def described(path: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The links and routes of the namespace at `path`, or of this one, as plain values.

    links: name, index, kind ("" for hardware), mac, mtu (bytes), up, master (a bridge's name), addresses.
    routes: destination ("default"), gateway, link, source, metric; those of the main table.
    """
    netns = namespace.opened(path or "/proc/thread-self/ns/net")
    try:
        with namespace.netlink_in(netns) as net:
            found, addresses, routes = links.all_links(net), links.addresses(net), links.routes(net)
    except OSError as error:
        raise namespace.failure(f"read {path or 'this namespace'}", error) from error
    finally:
        os.close(netns)
    names = {link.index: link.name for link in found}
    return {
        "links": [
            {
                "name": link.name,
                "index": link.index,
                "kind": link.kind,
                "mac": link.mac,
                "mtu": link.mtu,
                "up": link.up,
                "master": names.get(link.master, ""),
                "addresses": [str(each) for each in addresses if each.index == link.index],
            }
            for link in found
        ],
        "routes": [
            {
                "destination": str(route.destination) if route.destination.prefix else "default",
                "gateway": route.gateway,
                "link": names.get(route.index, ""),
                "source": route.source,
                "metric": route.metric,
            }
            for route in routes
        ],
    }


def _check_name(name: str, what: str) -> None:
    """Raise InvalidInput unless `name` can name a link."""
    size = len(os.fsencode(name))
    if size > links.NAME_LIMIT:
        raise InvalidInput(f"{name!r} has {size} bytes; the name of a link has {links.NAME_LIMIT} at most", where=what)
    if name in ("", ".", "..") or any(c in "/:" or c.isspace() or not c.isprintable() for c in name):
        raise InvalidInput(f"{name!r} cannot name a link", where=what, hint="letters, digits, - and _ can")


def _bridge(net: Netlink, name: str) -> links.Link:
    _check_name(name, "bridge")
    link = links.find(net, name)
    if link is None:
        raise NotFound(f"no bridge {name}", hint=_BRIDGE_HINT.format(name))
    if link.kind != "bridge":
        raise InvalidInput(f"{name} is no bridge but {link.kind or 'a device'}", hint=_BRIDGE_HINT.format("br0"))
    return link


def _host_address(text: str, where: str) -> tuple[str, Subnet]:
    host, subnet = parse_cidr(text, where=where)
    if subnet.bits == 32 and subnet.prefix < 31 and subnet.index(host) in (0, subnet.size - 1):
        raise InvalidInput(
            f"{host} is the {'first' if subnet.index(host) == 0 else 'last'} address of {subnet}, not a host's",
            where=where,
            hint=f"{where} {subnet.address(1)}/{subnet.prefix}",
        )
    return host, subnet


def _gateway(text: str, subnet: Subnet) -> str:
    gateway = parse_address(text, where="--gateway")
    if not 0 <= subnet.index(gateway) < subnet.size:
        raise InvalidInput(f"{gateway} is not in {subnet}", where="--gateway", hint=f"--gateway {subnet.address(1)}")
    return gateway


def _check_unused(host: str, addresses: list[links.Address], who: str) -> None:
    if any(each.address == host for each in addresses):
        raise Conflict(f"address {host} is in use by {who}", hint="choose another --address")


def _check_neighbours(host: str, ours: list[links.Address]) -> None:
    """Raise Conflict if a pinned namespace in the bridge's subnets has the address already."""
    subnets = [parse_cidr(str(each), where="")[1] for each in ours]
    if subnets and not any(0 <= subnet.index(host) < subnet.size for subnet in subnets):
        return
    try:
        names = os.listdir(namespace.DIRECTORY)
    except FileNotFoundError:
        return
    for name in names:
        try:
            netns = namespace.opened(f"{namespace.DIRECTORY}/{name}")
        except (NotFound, InvalidInput, HostError):  # gone, or never one
            continue
        try:
            with namespace.netlink_in(netns) as inner:
                _check_unused(host, links.addresses(inner), f"namespace {name}")
        finally:
            os.close(netns)


def _short(path: str) -> str:
    """A namespace as it is written on the command line."""
    return path.removeprefix(f"{namespace.DIRECTORY}/")
