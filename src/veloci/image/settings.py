"""Changes to an image's configuration, as the command line names them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

# What `--clear` takes: the name, and where it is, in `config` or at the top ("" before the name).
FIELDS = {
    "user": "config.User",
    "env": "config.Env",
    "entrypoint": "config.Entrypoint",
    "cmd": "config.Cmd",
    "label": "config.Labels",
    "volume": "config.Volumes",
    "port": "config.ExposedPorts",
    "workdir": "config.WorkingDir",
    "stop-signal": "config.StopSignal",
    "healthcheck": "config.Healthcheck",
    "shell": "config.Shell",
    "on-build": "config.OnBuild",
    "author": ".author",
    "created": ".created",
    "variant": ".variant",
    "os-version": ".os.version",
    "os-features": ".os.features",
}


def cleared(config: dict[str, Any], names: Iterable[str]) -> None:
    """Remove fields by their names in FIELDS; "history" empties the history's words. Raises InvalidInput."""
    for name in names:
        where = FIELDS.get(name)
        if name == "history":
            for step in config.get("history") or ():
                for key in ("created_by", "comment", "author"):
                    step.pop(key, None)
        elif where is None:
            known = ", ".join((*FIELDS, "history"))
            raise InvalidInput(f"{name!r} cannot be cleared", where="--clear", hint=known)
        elif where.startswith("."):
            config.pop(where[1:], None)
        else:
            inner(config).pop(where.partition(".")[2], None)


def inner(config: dict[str, Any]) -> dict[str, Any]:
    """The object `config` in an image's configuration; made if there is none."""
    found: dict[str, Any] = config.get("config") or {}
    config["config"] = found
    return found


def set_variables(config: dict[str, Any], pairs: Sequence[str]) -> None:
    """Set environment variables, each KEY=VALUE; KEY- removes one. Raises InvalidInput."""
    if not pairs:
        return
    known = {entry.partition("=")[0]: entry for entry in inner(config).get("Env") or ()}
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals and pair.endswith("-"):
            known.pop(pair[:-1], None)
        elif not equals or not name:
            raise InvalidInput(f"{pair!r} is no variable", where="--env", hint="KEY=VALUE, or KEY- to remove it")
        else:
            known[name] = pair
    inner(config)["Env"] = list(known.values())


def set_pairs(table: dict[str, str] | None, pairs: Sequence[str], flag: str) -> dict[str, str]:
    """A table with pairs KEY=VALUE set, and those KEY- removed. Raises InvalidInput."""
    found = dict(table or {})
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and pair.endswith("-"):
            found.pop(pair[:-1], None)
        elif not equals or not name:
            raise InvalidInput(f"{pair!r} is no pair", where=flag, hint="KEY=VALUE, or KEY- to remove it")
        else:
            found[name] = value
    return found


def set_members(config: dict[str, Any], key: str, names: Sequence[str]) -> None:
    """Add names to a set of config.md, an object whose values are empty; NAME- removes one."""
    if not names:
        return
    found = dict(inner(config).get(key) or {})
    for name in names:
        if name.endswith("-"):
            found.pop(name[:-1], None)
        else:
            found[name] = {}
    inner(config)[key] = found


def is_time(text: str) -> bool:
    """Whether it is a date and time of RFC 3339, section 5.6."""
    import re
    from datetime import datetime

    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text, re.ASCII | re.IGNORECASE):
        return False
    try:  # what Python reads of a fraction are six digits
        datetime.fromisoformat(re.sub(r"\.\d+", "", text).upper())
    except ValueError:
        return False
    return True


def named(text: str | None, flag: str) -> str | None:
    """What may not be empty: config.md, architecture and os are REQUIRED. Raises InvalidInput."""
    if text == "":
        raise InvalidInput("may not be empty", where=flag)
    return text


def words(text: str, flag: str) -> list[str]:
    """A command as Docker writes it: a JSON array, or one word. Raises InvalidInput."""
    from veloci.spec.document import loads

    if not text.startswith("["):
        return [text] if text else []
    try:
        found = loads(text.encode())
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InvalidInput(f"{text!r} is no array of strings", where=flag, hint='["word", "word"]')
    return found
