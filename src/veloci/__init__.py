"""veloci: the whole OCI stack in Python.

Nothing is imported until it is used: `import veloci` costs one module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine as Engine
    from veloci.errors import VelociError as VelociError

__version__ = "0.1.0.dev0"

_HOME = {
    "Engine": "veloci.engine.engine",
    "VelociError": "veloci.errors",
}

__all__ = ["Engine", "VelociError"]


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
