"""`plan`."""

from __future__ import annotations

import posix
import sys

from veloci.cli.oci.main import chosen, rootless
from veloci.errors import InvalidInput
from veloci.runtime.explain import explained
from veloci.runtime.starting import prepare
from veloci.spec.document import dumps


def plan(*, bundle: str = ".", format: str = "table", no_pivot: bool = False, no_new_keyring: bool = False) -> int:
    """Show the steps that a bundle's config.json becomes; nothing is made.

    -b, --bundle DIR     the bundle; the current directory by default
    -f, --format FORMAT  table or json
    --no-pivot           as for create
    --no-new-keyring     as for create
    """
    if format not in ("table", "json"):
        raise InvalidInput("invalid format option", where="--format", hint="table or json")
    made, config, _, saved = prepare(
        "ID",
        bundle,
        None,
        console=True,
        pivot=not no_pivot,
        keyring=not no_new_keyring,
        systemd=chosen("systemd-cgroup"),
        rootless=rootless(),
    )
    steps = list(explained(made, config, saved))
    if format == "json":
        sys.stdout.write(dumps(steps, indent=2).decode() + "\n")
        return 0
    width = posix.get_terminal_size(1).columns if posix.isatty(1) else 0
    for number, step in enumerate(steps, 1):
        head = f"{number:3}  {step['step']}"
        sys.stdout.write(f"{head:26}{step['at']}".rstrip() + "\n")
        for text in (step["calls"], f"# {step['why']}"):
            line = f"     {text}"
            sys.stdout.write((line[: width - 1] + "…" if 0 < width < len(line) else line) + "\n")
    return 0
