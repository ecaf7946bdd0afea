"""Network devices of the runtime's namespace that a container gets: linux.netDevices.

https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#network-devices
"""

from __future__ import annotations

import os
from errno import EEXIST, ENODEV
from struct import pack, unpack_from

from veloci.errors import HostError, InvalidInput
from veloci.kernel import process as p
from veloci.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute, each_attribute, number, text, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from veloci.spec.runtime import NetDevice

_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_IFNAME, _NET_NS_FD = 3, 28  # IFLA_*
_UP, _PERMANENT, _UNIVERSE = 1, 0x80, 0  # IFF_UP, IFA_F_PERMANENT, RT_SCOPE_UNIVERSE
_FLAGS = 8  # IFA_FLAGS


def check(devices: Mapping[str, NetDevice], *, namespaced: bool) -> None:
    """Raise InvalidInput for a name that no device can have, one given twice, or without a network namespace."""
    if not namespaced:
        raise InvalidInput("needs a network namespace in linux.namespaces", where="config.json: $.linux.netDevices")
    seen: set[str] = set()
    for name, device in devices.items():
        for each in (name, device.name or name):
            if not 0 < len(each.encode()) < 16 or each in (".", "..") or any(c in "/:" or c.isspace() for c in each):
                where = f"config.json: $.linux.netDevices.{name}"
                raise InvalidInput(f"{each!r} is no name of a network device", where=where)
        if (device.name or name) in seen:
            raise InvalidInput(f"{device.name!r} stands twice", where=f"config.json: $.linux.netDevices.{name}.name")
        seen.add(device.name or name)


def move(devices: Mapping[str, NetDevice], pid: int) -> None:
    """Move each device to the network namespace of process `pid`, with its global addresses, and set it up.

    Raises HostError with the device's place in config.json.
    """
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Netlink() as here, _inside(theirs) as there:
            for name, device in devices.items():
                try:
                    _move(here, there, theirs, name, device.name or name)
                except OSError as error:
                    raise HostError(
                        f"move network device {name}", error, where=f"config.json: $.linux.netDevices.{name}"
                    ) from error
    finally:
        os.close(theirs)


def _inside(namespace: int) -> Netlink:
    """A socket of that namespace; this process has one thread, and comes back at once."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        p.setns(namespace, p.CLONE_NEWNET)
        try:
            return Netlink()
        finally:
            p.setns(home, p.CLONE_NEWNET)
    finally:
        os.close(home)


def _move(here: Netlink, there: Netlink, namespace: int, name: str, new: str) -> None:
    found = here.talk((_GETLINK, 0, _link(0) + text(_IFNAME, name)))[0]
    index = int(unpack_from("=i", found, 4)[0])
    addresses = [body for body in here.dump(_GETADDR, pack("=BBBBi", 0, 0, 0, 0, 0)) if _kept(body, index)]
    if _there(there, new):  # the kernel would rename it only after the move, and leave it there
        raise OSError(EEXIST, f"the container has a device {new} already")
    here.talk((_NEWLINK, 0, _link(index) + u32(_NET_NS_FD, namespace) + text(_IFNAME, new)))
    moved = there.talk((_GETLINK, 0, _link(0) + text(_IFNAME, new)))[0]
    index = int(unpack_from("=i", moved, 4)[0])
    for body in addresses:
        family, prefix, flags, scope = unpack_from("=BBBB", body)
        values = b"".join(attribute(kind, value) for kind, value in each_attribute(body, 8) if kind in (1, 2, 4))
        head = pack("=BBBBi", family, prefix, flags & ~_PERMANENT, scope, index)
        try:
            there.talk((_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head + values))
        except OSError as error:
            if error.errno != EEXIST:
                raise
    there.talk((_NEWLINK, 0, _link(index, up=True)))


def _there(net: Netlink, name: str) -> bool:
    try:
        net.talk((_GETLINK, 0, _link(0) + text(_IFNAME, name)))
    except OSError as error:
        if error.errno == ENODEV:
            return False
        raise
    return True


def _kept(body: bytes, index: int) -> bool:
    """Whether an address is the device's, permanent and global: what the specification keeps."""
    _family, _prefix, flags, scope, of = unpack_from("=BBBBi", body)
    flags |= number(dict(each_attribute(body, 8)).get(_FLAGS, b""))
    return of == index and bool(flags & _PERMANENT) and scope == _UNIVERSE


def _link(index: int, *, up: bool = False) -> bytes:
    return pack("=BxHiII", 0, 0, index, _UP if up else 0, _UP if up else 0)
