"""A container's device rules: none by default, then those of config.json, then those it always needs."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.kernel.bpf import DeviceRule
    from veloci.spec.runtime import Resources

# What runc allows always: any node may be made; null, zero, full, random, urandom, tty, ptmx, terminals. Not 5:1, the
# console: that is the host's, the container's is one of the terminals.
_ALWAYS: tuple[DeviceRule, ...] = (
    (True, "c", None, None, "m"),
    (True, "b", None, None, "m"),
    (True, "c", 1, 3, "rwm"),
    (True, "c", 1, 5, "rwm"),
    (True, "c", 1, 7, "rwm"),
    (True, "c", 1, 8, "rwm"),
    (True, "c", 1, 9, "rwm"),
    (True, "c", 5, 0, "rwm"),
    (True, "c", 5, 2, "rwm"),
    (True, "c", 136, None, "rwm"),
)
# /dev/net/tun, which VPNs make for themselves. runc 1.2 took it away and 1.2.4 gave it back, crun too: callers need it.
_TUN: DeviceRule = (True, "c", 10, 200, "rwm")


def check(resources: Resources) -> None:
    """Raise InvalidInput, with the place, for a rule that says nothing."""
    for index, rule in enumerate(resources.devices):
        where = f"config.json: $.linux.resources.devices[{index}]"
        if rule.type not in ("", "a", "b", "c"):
            raise InvalidInput(f"expected one of a, b, c, got {rule.type!r}", where=f"{where}.type")
        if rule.access and not known(rule.access):
            raise InvalidInput(f"expected letters of rwm, got {rule.access!r}", where=f"{where}.access")


def known(access: str) -> str:
    """Of `access` the letters that the specification has. runC ignores others."""
    return "".join(letter for letter in "rwm" if letter in access)


def ignored(resources: Resources) -> list[str]:
    """A warning for each rule whose access has more than is known."""
    return [
        f"config.json: $.linux.resources.devices[{index}].access: ignoring what is none of r, w, m in {rule.access!r}"
        for index, rule in enumerate(resources.devices)
        if not set(rule.access) <= set("rwm")
    ]


def rules(resources: Resources) -> list[DeviceRule]:
    """The rules in their order; a later one wins. The numbers -1 and none mean any. A rule for tun itself stands."""
    found: list[DeviceRule] = [(False, "a", None, None, "rwm")]
    for rule in resources.devices:
        major, minor = (None if number in (None, -1) else number for number in (rule.major, rule.minor))
        kind = rule.type or "a"
        if kind == "a" and major is None and minor is None:
            found = [(rule.allow, "a", None, None, "rwm")]
        else:
            kinds = "bc" if kind == "a" else kind
            found += [(rule.allow, each, major, minor, known(rule.access) or "rwm") for each in kinds]
    if found == [(True, "a", None, None, "rwm")]:
        return found
    named = any(rule[1:4] == _TUN[1:4] for rule in found)
    return [*found, *_ALWAYS] if named else [*found, *_ALWAYS, _TUN]
