"""Devices by name, as their makers describe them: the Container Device Interface. Pure.

https://github.com/cncf-tags/container-device-interface/blob/v1.0.0/SPEC.md
"""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.document import Document, Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_VENDOR = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class Node(Document):
    """A device node. host_path: where it is on the host, if elsewhere."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    permissions: str = "rwm"
    uid: int | None = None
    gid: int | None = None


class Mount(Document):
    """A bind of the host, or another file system."""

    host_path: str
    container_path: str
    type: str = ""
    options: tuple[str, ...] = ()


class Hook(Document):
    """A program of the host. hook_name: when it runs, of runtime-spec's six."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None  # seconds


class Edits(Document, additional_gids="additionalGids"):
    """What a device changes in config.json."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[Node, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = ()
    intel_rdt: Json = None


class Device(Document):
    """One device of a kind."""

    name: str
    container_edits: Edits = Edits()


class Spec(Document, cdi_version="cdiVersion"):
    """A file: the devices of one kind, `vendor.com/class`, and what all of them need."""

    cdi_version: str
    kind: str
    devices: tuple[Device, ...] = ()
    container_edits: Edits = Edits()


def is_name(text: str) -> bool:
    """Whether `text` names a device in this way: `vendor.com/class=name`."""
    kind, equals, name = text.partition("=")
    vendor, slash, class_ = kind.partition("/")
    return bool(equals and name and slash and vendor and class_) and _VENDOR.issuperset(vendor + class_)


def chosen(specs: Iterable[Spec], names: Iterable[str], where: str = "--device") -> list[Edits]:
    """The edits of the devices `names`, each spec's common ones before them. A later spec wins. Raises InvalidInput."""
    known: dict[str, tuple[Spec, Device]] = {}
    for spec in specs:
        for device in spec.devices:
            known[f"{spec.kind}={device.name}"] = (spec, device)
    found: list[Edits] = []
    common: list[Spec] = []
    for name in names:
        if name not in known:
            hint = "known: " + (" ".join(sorted(known)) or "none; /etc/cdi and /var/run/cdi describe devices")
            raise InvalidInput(f"unresolvable CDI device {name}", where=where, hint=hint)
        spec, device = known[name]
        if spec not in common:
            common.append(spec)
            found.append(spec.container_edits)
        found.append(device.container_edits)
    return found


def applied(config: dict[str, Any], edits: Iterable[Edits], nodes: dict[str, dict[str, Any]]) -> None:
    """Change config.json as the devices want it. nodes: host path -> an entry of linux.devices. Raises InvalidInput."""
    process, linux = config["process"], config["linux"]
    for edit in edits:
        for entry in edit.env:
            key = entry.partition("=")[0] + "="
            process["env"] = [e for e in process["env"] if not e.startswith(key)] + [entry]
        for node in edit.device_nodes:
            _add_node(linux, node, nodes)
        for mount in edit.mounts:
            bind = not mount.type or mount.type == "bind"
            options = list(mount.options) or ["rbind", "nosuid", "nodev", "rprivate"]
            if bind and not {"bind", "rbind"} & {*options}:
                options.append("rbind")
            config["mounts"] = [m for m in config["mounts"] if m["destination"] != mount.container_path]
            config["mounts"].append(
                {
                    "destination": mount.container_path,
                    "type": mount.type or "bind",
                    "source": mount.host_path,
                    "options": options,
                }
            )
        for hook in edit.hooks:
            if hook.hook_name not in _HOOKS:
                raise InvalidInput(f"no hook {hook.hook_name!r}", where="--device", hint=" ".join(_HOOKS))
            plain = hook.plain()
            config.setdefault("hooks", {}).setdefault(plain.pop("hookName"), []).append(plain)
        if edit.additional_gids:
            groups = {*process["user"].get("additionalGids", ()), *edit.additional_gids}
            process["user"]["additionalGids"] = sorted(groups)
        if edit.intel_rdt is not None:
            linux["intelRdt"] = edit.intel_rdt


def _add_node(linux: dict[str, Any], node: Node, nodes: dict[str, dict[str, Any]]) -> None:
    here = nodes.get(node.host_path or node.path, {})
    device = {
        "path": node.path,
        "type": node.type or here.get("type", "c"),
        "major": here.get("major", 0) if node.major is None else node.major,
        "minor": here.get("minor", 0) if node.minor is None else node.minor,
    }
    for key, value in (("fileMode", node.file_mode), ("uid", node.uid), ("gid", node.gid)):
        found = here.get(key) if value is None else value
        if found is not None:
            device[key] = found
    linux.setdefault("devices", []).append(device)
    if device["type"] in ("b", "c"):
        rule = {"allow": True, "access": node.permissions, **{k: device[k] for k in ("type", "major", "minor")}}
        linux["resources"].setdefault("devices", []).append(rule)
