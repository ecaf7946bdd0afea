"""veloci: the whole OCI stack in Python.

    from veloci import Engine, RunOptions

    print(Engine().run("debian:12", ["echo", "hello"], RunOptions(rm=True)).text)

Nothing is imported until it is used: `import veloci` costs one module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.container import Container as Container
    from veloci.engine.container import Finished as Finished
    from veloci.engine.engine import Engine as Engine
    from veloci.engine.run_options import RunOptions as RunOptions
    from veloci.errors import VelociError as VelociError

__version__ = "0.1.0.dev0"

_HOME = {
    "Container": "veloci.engine.container",
    "Engine": "veloci.engine.engine",
    "Finished": "veloci.engine.container",
    "RunOptions": "veloci.engine.run_options",
    "VelociError": "veloci.errors",
}

__all__ = ["Container", "Engine", "Finished", "RunOptions", "VelociError"]


def __getattr__(name: str) -> object:
    """Import a public name from its home, and remember it."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'veloci' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
