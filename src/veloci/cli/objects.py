"""What `network` and `volume` have in common: things with names, looked at and removed several at once."""

from __future__ import annotations

from veloci.cli.main import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def inspected(names: Iterable[str], find: Callable[[str], dict[str, Any]], format: str | None) -> int:
    """Show what `find` gives for each, as one JSON list or by a template. Returns the exit status."""
    from veloci.cli.output import show
    from veloci.cli.template import Template
    from veloci.spec.document import dumps

    found: list[dict[str, Any]] = []
    template = None if format in (None, "", "json") else Template(str(format))
    status = each(lambda name: found.append(find(name)), names)
    if template:
        show("".join(template.render(item) + "\n" for item in found))
    else:
        show(dumps(found, indent=0 if format else 4).decode() + "\n")
    return status


def removed(names: Iterable[str], remove: Callable[[str], None], *, force: bool) -> int:
    """Remove each and print its name. force: say nothing of one that is not there. Returns the exit status."""
    from veloci.errors import NotFound

    def one(name: str) -> None:
        try:
            remove(name)
        except NotFound:
            if not force:
                raise
        else:
            print(name)

    return each(one, names)
