"""Where a changed image goes when it shall replace the one that it was made of."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.spec.image import REF_NAME
from veloci.transport.docker_archive import DockerArchiveSource, entries
from veloci.transport.layout import LayoutSource
from veloci.transport.names import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.transport.place import Source


def home(text: str, source: Source) -> tuple[str, tuple[str, ...]]:
    """The place `text`, at which `source` is, with the image's name there; and the further names that it has.

    Raises InvalidInput where other images would be lost, or the image could not be found again.
    """
    kind, rest = split(text)
    path = rest.partition(":")[0]
    if kind == "docker-archive:" and isinstance(source, DockerArchiveSource):
        _alone(text, len(entries(source.archive)))
        first, *more = source.entry.repo_tags or ("",)
        return f"{kind}{path}:{first}" if first else f"{kind}{path}", tuple(more)
    if isinstance(source, LayoutSource):
        if kind == "oci-archive:":
            _alone(text, len(source.index.manifests))
        name = source.chosen().annotations.get(REF_NAME, "")
        if not name and kind == "oci:":
            raise InvalidInput("the image has no name there", where=text, hint="--to oci:DIRECTORY:NAME")
        return f"{kind}{path}:{name}" if name else f"{kind}{path}", ()
    return text, ()


def _alone(text: str, count: int) -> None:
    if count > 1:
        raise InvalidInput(f"{count} images are there: the others would be lost", where=text, hint="--to PLACE")
