"""Devices by name: the files that describe them, found and read (CDI)."""

from __future__ import annotations

import os

from veloci.bundle import cdi
from veloci.errors import InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")  # what is in the later one wins
_LIMIT = 4 << 20  # bytes of one file


def edited(config: dict[str, Any], names: Sequence[str], where: str = "--device") -> None:
    """Change config.json as the devices `names` want it. Raises InvalidInput for one that no file describes."""
    from veloci.engine.devices import described

    edits = cdi.chosen(specs(), names, where)
    paths = {node.host_path or node.path for edit in edits for node in edit.device_nodes}
    cdi.applied(config, edits, {path: device for path in paths if (device := described(path)) is not None})


def specs(directories: Sequence[str] | None = None) -> list[cdi.Spec]:
    """What the files in `directories` (None: the usual ones) say, in the order of their names.

    One that is wrong raises InvalidInput with its place.
    """
    found = []
    for directory in DIRECTORIES if directories is None else directories:
        try:
            entries = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [_read(f"{directory}/{name}") for name in entries if name.endswith((".json", ".yaml", ".yml"))]
    return found


def graphics(text: str) -> list[str]:
    """The device names of docker's `--gpus`: all, a number of them below 1000, or device=ID,ID. Raises InvalidInput."""
    kind = "nvidia.com/gpu"
    if text == "all":
        return [f"{kind}=all"]
    if text.isascii() and text.isdigit() and len(text) <= 3 and int(text):
        return [f"{kind}={index}" for index in range(int(text))]
    if text.strip('"').startswith("device="):
        return [f"{kind}={name}" for name in text.strip('"').removeprefix("device=").split(",") if name]
    raise InvalidInput(f"{text!r} names no devices", where="--gpus", hint="all, 2, or device=0,1")


def _read(path: str) -> cdi.Spec:
    try:
        with open(path, "rb") as file:
            raw = file.read(_LIMIT)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", where="--device") from None
    if path.endswith(".json"):
        return cdi.Spec.decode(raw, name=path)
    import yaml

    from veloci.spec.document import dumps

    try:
        return cdi.Spec.decode(dumps(yaml.safe_load(raw)), name=path)
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, VelociError):
            raise
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())}", where=path) from None
