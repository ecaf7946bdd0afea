"""`spec`, `features`, `version` and `help`."""

from __future__ import annotations

import os

from veloci.cli.oci.main import COMMANDS, called, command
from veloci.cli.options import call
from veloci.errors import InvalidInput
from veloci.spec.document import dumps

_OPTIONS = """
Options, before the command:
  --root DIR          where the state of containers is; /run/veloci-runtime unless said
  --log FILE          where errors and warnings go; standard error unless said
  --log-format FORM   text or json
  --debug             log each step as well
  --explain           on a failure, show the step that failed, its system calls, its reason and what to do
  --systemd-cgroup    let systemd make the control groups; cgroupsPath is slice:prefix:name
  --rootless MODE     auto, true or false: whether containers are made without privilege over the host
  --criu FILE         the program that checkpoints and restores; `criu` of PATH unless said
  --help, --version   also -h, -v"""


def spec(*, bundle: str = ".", rootless: bool = False) -> int:
    """Write a config.json to start from.

    -b, --bundle DIR  where; the current directory by default
    --rootless        for a user without privilege
    """
    from veloci.bundle.defaults import default

    path = f"{bundle}/config.json"
    if os.path.exists(path):
        raise InvalidInput(f"File {path} exists. Remove it first")
    with open(path, "wb") as file:
        file.write(dumps(default(rootless=rootless, uid=os.geteuid(), gid=os.getegid()), indent=2) + b"\n")
    return 0


def features() -> int:
    """Print what this runtime can do, as JSON."""
    from veloci.runtime.features import features as known

    print(dumps(known(), indent=4).decode())
    return 0


def version() -> int:
    """Print versions as runc does."""
    from veloci import __version__
    from veloci.runtime.features import library
    from veloci.runtime.starting import VERSION

    print(f"{called()} version {__version__}\ncommit: {__version__}\nspec: {VERSION}")
    if filters := library():
        print(f"libseccomp: {filters}")
    return 0


def help_(topic: str = "", /) -> int:
    """Show the commands, or what one of them takes."""
    if topic:
        return call(command(topic), ["--help"], program=f"{called()} {topic}", named=True)
    print(f"NAME:\n   {called()} - Open Container Initiative runtime\n")
    print(f"Usage: {called()} [OPTION...] COMMAND\n")
    for name in COMMANDS:
        print(f"  {name:12}{(command(name).__doc__ or '').strip().splitlines()[0]}")
    print(_OPTIONS)
    return 0
