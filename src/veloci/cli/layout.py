"""`veloci layout init | ls | rm | gc`: OCI image layouts in directories, as umoci keeps them."""

from __future__ import annotations


def init(directory: str, /) -> int:
    """Make an empty OCI image layout in DIRECTORY."""
    from veloci.transport.layout_edit import create

    create(_path(directory)[0])
    return 0


def ls(directory: str, /) -> int:
    """List the names of the images in a layout; @N is the N-th, if it has none."""
    from veloci.cli.output import show
    from veloci.transport.listing import names

    show("".join(f"{name}\n" for name in names(f"oci:{_path(directory)[0]}")))
    return 0


def rm(image: str, /, *images: str) -> int:
    """Remove names from a layout, each DIRECTORY:NAME; `veloci layout gc` frees what nothing then needs."""
    from veloci.cli.main import each
    from veloci.errors import InvalidInput
    from veloci.transport.layout_edit import remove

    def one(text: str) -> None:
        path, name = _path(text)
        if not name:
            raise InvalidInput("names no image", where=text, hint="DIRECTORY:NAME")
        remove(path, name)

    return each(one, (image, *images))


def gc(directory: str, /, *, quiet: bool = False) -> int:
    """Remove the blobs of a layout that none of its images needs.

    -q, --quiet   print nothing
    """
    from veloci.cli.output import show, size
    from veloci.transport.layout_edit import collect

    removed = collect(_path(directory)[0])
    if not quiet:
        show("".join(f"{digest}\n" for digest, _ in removed))
        show(f"Total reclaimed space: {size(sum(count for _, count in removed))}\n")
    return 0


def _path(text: str) -> tuple[str, str]:
    """A layout's directory, and the name after its colon."""
    path, _, name = text.removeprefix("oci:").partition(":")
    return path, name
