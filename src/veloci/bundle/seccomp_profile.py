"""A seccomp profile in docker's form, as linux.seccomp of config.json.

https://docs.docker.com/engine/security/seccomp/: beside the specification's fields it has `archMap`, and rules
that are there for some capabilities, architectures or kernels only (`includes`, `excludes`).
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_AT = "--security-opt seccomp"
_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_KEPT = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


def translated(
    profile: Any, capabilities: Collection[str], *, machine: str = "", release: str = ""
) -> dict[str, Any] | None:
    """`profile`, a JSON object, for a process that is granted `capabilities` (CAP_…); None: it filters nothing.

    machine, release: of uname(2), by default this host's. A profile in the specification's own form passes
    unchanged. Raises InvalidInput.
    """
    from os import uname

    if not isinstance(profile, dict):
        raise InvalidInput("the profile is not a JSON object", where=_AT)
    machine, release = machine or uname().machine, release or uname().release
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None  # as docker takes an empty one
    found = {key: profile[key] for key in _KEPT if profile.get(key) is not None}
    if not isinstance(found.get("defaultAction"), str):
        raise InvalidInput("the profile has no defaultAction", where=_AT)
    found["architectures"] = _architectures(profile, machine)
    rules = profile.get("syscalls") or []
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise InvalidInput("syscalls is not a list of objects", where=_AT)
    held = _Held(capabilities, _ARCHITECTURES.get(machine, (machine, ""))[0], _version(release))
    found["syscalls"] = [_rule(rule) for rule in rules if held.allow(rule)]
    return found


def _architectures(profile: dict[str, Any], machine: str) -> list[str]:
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidInput("the profile has both architectures and archMap", where=_AT)
    if profile.get("architectures"):
        return list(profile["architectures"])
    own = _ARCHITECTURES.get(machine, ("", ""))[1]
    for entry in profile.get("archMap") or []:
        if entry.get("architecture") == own:
            return [own, *(entry.get("subArchitectures") or [])]
    return []


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as the specification knows it; `name` is the older form of `names`."""
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    if not names or not rule.get("action"):
        raise InvalidInput("a rule needs names and an action", where=f"{_AT}.syscalls")
    found: dict[str, Any] = {"names": names, "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        found["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        found["args"] = [{key: value for key, value in each.items() if value is not None} for each in rule["args"]]
    return found


class _Held:
    """What a rule's conditions are held against."""

    def __init__(self, capabilities: Collection[str], architecture: str, kernel: tuple[int, int]) -> None:
        self.capabilities, self.architecture, self.kernel = capabilities, architecture, kernel

    def allow(self, rule: dict[str, Any]) -> bool:
        """Whether the rule counts."""
        without, only = rule.get("excludes") or {}, rule.get("includes") or {}
        if self.architecture in (without.get("arches") or ()):
            return False
        if any(name in self.capabilities for name in without.get("caps") or ()):
            return False
        if without.get("minKernel") and self.kernel >= _version(without["minKernel"]):
            return False
        if only.get("arches") and self.architecture not in only["arches"]:
            return False
        if any(name not in self.capabilities for name in only.get("caps") or ()):
            return False
        return not only.get("minKernel") or self.kernel >= _version(only["minKernel"])


def _version(text: str) -> tuple[int, int]:
    """`6.1.0-13-amd64` as (6, 1)."""
    words = text.split("-", maxsplit=1)[0].split(".")
    if len(words) < 2 or not all(word.isascii() and word.isdigit() for word in words[:2]):
        raise InvalidInput(f"{text!r} is not a kernel's version", where=_AT)
    return int(words[0]), int(words[1])
