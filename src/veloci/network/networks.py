"""Networks: create and remove them, connect containers and disconnect them.

    prepare ──▶ lease ──▶ attach ──▶ detach
    address and ports     bridge, veth,      all of it gone; with the
    are reserved          address, rules     last lease the bridge, too

A lease is a plain dict, so it crosses processes as JSON; it is also a file, so whoever finds
a dead container can take its network back (`reclaim`). The bridge and its rules appear
with the first lease and go with the last: a host without containers looks as if veloci
had never been there.
"""

from __future__ import annotations

from veloci.errors import Conflict, InvalidInput, NotFound, VelociError
from veloci.kernel.netlink import Netlink
from veloci.network import bridges, firewall, links
from veloci.network.addresses import parse_subnet
from veloci.network.leases import free_address, new_lease, plain, plug, ports_of
from veloci.network.namespace import failure
from veloci.network.ports import close, reserve_all
from veloci.network.store import Network, Store, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from veloci.network.addresses import Subnet
    from veloci.network.ports import Port

    Lease = dict[str, Any]

DEFAULT = "bridge"
_RESERVED = (DEFAULT, "host", "none", "default", "container")


# The sockets that `prepare` bound, until `hold` asks for them: a forked monitor finds them here, too.
_HELD: dict[tuple[str, str, str, str], list[socket]] = {}


class Networks:
    """The networks kept below `root`, and the namespace of the calling thread as the host's side of them.

    told: called with "create" or "destroy" and the network, once that is done.
    """

    def __init__(self, root: str, told: Callable[[str, Network], None] | None = None) -> None:
        self._store, self._told = Store(root), told

    # --- the networks themselves

    def create(
        self,
        name: str,
        *,
        subnet: str | None = None,
        gateway: str | None = None,
        internal: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network; its bridge appears with its first container.

        subnet: as in "10.99.0.0/24", None lets veloci choose. gateway: None is the first address.
        internal: without a way out. Raises Conflict if the name or the subnet is taken, InvalidInput.
        """
        if not is_name(name):
            raise InvalidInput(
                f"{name!r} cannot name a network", hint="a letter or a digit, then letters, digits, _ . and -"
            )
        if name in _RESERVED:
            raise Conflict(f"network {name} is predefined", hint="choose another name")
        with self._store.lock(), _netlink() as net:
            if self._store.read(name):
                raise Conflict(f"network {name} exists already", hint=f"veloci network rm {name}")
            network = bridges.plan(
                net,
                name,
                taken=self._subnets(),
                subnet=parse_subnet(subnet, where="--subnet") if subnet else None,
                gateway=gateway,
                internal=internal,
                labels=labels,
            )
            self._store.write(network)
        if self._told:
            self._told("create", network)
        return network

    def get(self, name: str) -> Network:
        """The network of that name or ID, or the only one whose ID starts so. Raises NotFound, Conflict."""
        network = self._store.read(name) if is_name(name) else None
        if network:
            return network
        if name == DEFAULT:
            return self.default()
        found = [network for network in self.all() if name and network.id.startswith(name)]
        if len(found) > 1:
            raise Conflict(f"{name} is the start of {len(found)} networks' IDs", hint="write more of it")
        if not found:
            raise NotFound(f"no network {name}", hint="list them: veloci network ls")
        return found[0]

    def all(self) -> list[Network]:
        """Every network that has been made, by name."""
        found = (self._store.read(name) for name in self._store.names())
        return [network for network in found if network]

    def default(self) -> Network:
        """The network called "bridge", made if it is not there."""
        network = self._store.read(DEFAULT)
        if network:
            return network
        with self._store.lock(), _netlink() as net:
            return self._read_or_default(net, DEFAULT)

    def remove(self, name: str) -> None:
        """Remove a network, also one whose file is damaged: of that nothing is known, and nothing told.

        Raises NotFound, Conflict if it is predefined or somebody is connected.
        """
        predefined = Conflict(f"network {name} is predefined", hint="leave it: unused it costs nothing")
        try:
            network = None if name in _RESERVED else self.get(name)
        except InvalidInput:  # damaged
            with self._store.lock():
                if self._store.holders(name):
                    raise
                self._store.remove(name)
            return
        if network is None or network.name == DEFAULT:
            raise predefined
        with self._store.lock(), _netlink() as net:
            holders = self._store.holders(network.name)
            if holders:
                names = ", ".join(sorted(container[:12] for container in holders.values()))
                raise Conflict(f"network {network.name} is in use by {names}", hint="stop or remove them first")
            bridges.lower(net, network)
            self._store.remove(network.name)
        if self._told:
            self._told("destroy", network)

    def leases(self, name: str) -> list[Lease]:
        """The leases of a network, by address."""
        return sorted(self._store.leases(name), key=lambda lease: str(lease["address"]))

    # --- a container's connection

    def prepare(
        self,
        network_name: str,
        container_id: str,
        *,
        ports: Sequence[Port] = (),
        address: str | None = None,
        mac: str | None = None,
    ) -> Lease:
        """Reserve an address and `ports` for a container, and bring the network's bridge up.

        Gives a lease: network, network_id, container, address, prefix, gateway ("" in an internal network), mac,
        bridge, veth, mtu, ports (dicts: hostAddress, hostPort, containerPort, protocol), warnings (why
        packets may not pass). A lease that the container had in this network before is taken back first.
        Raises NotFound, InvalidInput, Conflict for an address or a port in use; nothing is left then.
        """
        if not is_name(container_id):
            raise InvalidInput(f"{container_id!r} cannot name a container")
        with self._store.lock(), _netlink() as net:
            network = self._read_or_default(net, network_name)
            if network.internal and ports:
                raise InvalidInput(
                    f"network {network.name} is internal, its containers publish no ports", where="--publish"
                )
            holders = self._store.holders(network.name)
            for old in [held for held, container in holders.items() if container == container_id]:
                self._give_back(net, network, old, container_id)
                del holders[old]
            held: list[socket] = []
            try:
                network, bridge = self._raised(net, network, empty=not holders)
                lease = new_lease(network, bridge, container_id, free_address(network, holders, address), mac)
                lease["ports"] = [plain(port) for port in reserve_all(ports, held)]
                lease["warnings"] = [] if network.internal else _obstacles()
                self._store.keep(lease)
            except BaseException as error:
                close(held)
                if not holders:
                    bridges.lower(net, network)
                if isinstance(error, OSError):
                    raise failure(f"bring network {network.name} up", error) from error
                raise
        _HELD[self._key(lease)] = held
        return lease

    def attach(self, lease: Lease, netns: int) -> None:
        """Connect the namespace `netns`, a descriptor: `lo` up, `eth0` with the lease's address, default route, ports.

        Raises NotFound if the lease is gone, Conflict if the namespace has an eth0, HostError, Denied;
        nothing but the lease is left then.
        """
        with _netlink() as net:
            bridge = links.find(net, lease["bridge"])
            if bridge is None or bridge.mac != lease["bridge_mac"]:
                bridge = self._again(net, lease)
            ports = ports_of(lease)
            try:
                plug(net, bridge, lease, netns)
                if ports:
                    links.reflect(net, lease["veth"])  # it may ask for its own published port
                    with firewall.opened() as rules:
                        firewall.publish(rules, lease["bridge"], ports, lease["address"])
            except OSError as error:
                links.remove(net, lease["veth"])
                raise failure(f"connect {lease['container']} to network {lease['network']}", error) from error
            except BaseException:
                links.remove(net, lease["veth"])
                raise

    def detach(self, lease: Lease) -> None:
        """Take a connection back: veth, ports, address; with the last one the bridge and its rules.

        Whatever of it is gone already is well: after kill -9, after a reboot, a second time.
        """
        close(_HELD.pop(self._key(lease), []))
        network = self._store.read(lease["network"])
        if network is None:
            return
        with self._store.lock(), _netlink() as net:
            self._give_back(net, network, lease["address"], lease["container"])

    def hold(self, lease: Lease) -> list[socket]:
        """Sockets that keep the lease's published ports for us as long as they are open.

        After `prepare` in this process, or in the one that it was forked from, they are its own, else new
        ones. Raises Conflict if a port was taken since; a parent that still holds it has taken it.
        """
        key = self._key(lease)
        held = _HELD.pop(key, None)
        if held is None:
            held = []
            try:
                reserve_all(ports_of(lease), held)
            except BaseException:
                close(held)
                raise
        return held

    def forget(self, name: str, container: str) -> None:
        """Give back what a dead container has in a network, also what whoever was killed in `prepare` left of it."""
        try:
            network = self.get(name)
        except VelociError:  # removed, or damaged
            return
        if not self._store.traces(network.name, container):
            return
        with self._store.lock(), _netlink() as net:
            for address, holder in self._store.holders(network.name).items():
                if holder == container:
                    self._give_back(net, network, address, container)
            self._store.sweep(network.name, container)

    def reclaim(self, alive: Callable[[str], bool]) -> list[str]:
        """Detach every lease whose container is not `alive`, remove bridges without leases. Returns the IDs."""
        ended = []
        for network in self.all():
            for address, container in self._store.holders(network.name).items():
                if not alive(container):
                    with self._store.lock(), _netlink() as net:
                        self._give_back(net, network, address, container)
                    ended.append(container)
            with self._store.lock(), _netlink() as net:
                if not self._store.holders(network.name):
                    bridges.lower(net, network)
        return ended

    def _key(self, lease: Lease) -> tuple[str, str, str, str]:
        return self._store.root, lease["network"], lease["address"], lease["container"]

    # --- under the lock

    def _read_or_default(self, net: Netlink, name: str) -> Network:
        network = self._store.read(name)
        if network is None and name == DEFAULT:
            network = bridges.plan(net, name, taken=self._subnets())
            self._store.write(network)
        return network or self.get(name)

    def _subnets(self, but: str = "") -> list[Subnet]:
        """The subnets of all networks but one; a damaged network has none."""
        found = []
        for name in self._store.names():
            try:
                network = self._store.read(name)
                found += [network.range()] if network and name != but else []
            except InvalidInput:
                continue
        return found

    def _raised(self, net: Netlink, network: Network, *, empty: bool) -> tuple[Network, links.Link]:
        """The network with its bridge, made if it is not there; rules that somebody flushed are put up again."""
        link = bridges.find(net, network)
        if link and empty:  # of a process that died midway: what it lacks nobody knows
            bridges.lower(net, network)
            link = None
        if link is None:
            raised, link = bridges.bring_up(net, network, empty=empty, taken=lambda: self._subnets(network.name))
            if raised != network:
                self._store.write(raised)
            return raised, link
        with firewall.opened() as rules:
            if not firewall.is_up(rules, network.link):
                firewall.put_up(rules, network.link, network.range(), internal=network.internal)
                for lease in self._store.leases(network.name):
                    firewall.publish(rules, network.link, ports_of(lease), lease["address"])
        return network, link

    def _again(self, net: Netlink, lease: Lease) -> links.Link:
        """The bridge of a lease, made anew: somebody removed it since `prepare`."""
        with self._store.lock():
            network = self._store.read(lease["network"])
            if network is None or self._store.lease(network.name, lease["address"], lease["container"]) is None:
                raise NotFound(f"container {lease['container']} has no lease in network {lease['network']}")
            network, link = self._raised(net, network, empty=False)
            lease.update(bridge=link.name, bridge_mac=network.mac)
            self._store.keep(lease)
            return link

    def _give_back(self, net: Netlink, network: Network, address: str, container: str) -> None:
        """Undo a lease; its file goes last, so that whoever dies midway leaves what `reclaim` finds."""
        try:
            if self._store.holders(network.name) == {address: container}:
                bridges.lower(net, network)
            elif lease := self._store.lease(network.name, address, container):
                with firewall.opened() as rules:
                    firewall.unpublish(rules, lease["bridge"], ports_of(lease))
                    links.remove(net, lease["veth"])
            self._store.release(network.name, address, container)
        except OSError as error:
            raise failure(f"disconnect {container} from network {network.name}", error) from error
        close(_HELD.pop((self._store.root, network.name, address, container), []))


def _netlink() -> Netlink:
    try:
        return Netlink()
    except OSError as error:
        raise failure("speak with the kernel about links", error) from error


def _obstacles() -> list[str]:
    with firewall.opened() as rules:
        return firewall.obstacles(rules)
