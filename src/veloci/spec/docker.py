"""Docker's own documents that the OCI has no counterpart of: the archive of `docker save`.

https://github.com/moby/docker-image-spec/blob/main/spec.md (combined image JSON and filesystem changeset format)
"""

from __future__ import annotations

from veloci.spec.document import Document
from veloci.spec.image import Descriptor


class ArchiveEntry(
    Document, config="Config", repo_tags="RepoTags", layers="Layers", layer_sources="LayerSources", parent="Parent"
):
    """One image of an archive's manifest.json: names of files in the archive."""

    config: str
    layers: tuple[str, ...] = ()  # base first
    repo_tags: tuple[str, ...] = ()
    layer_sources: dict[str, Descriptor] = {}  # diff ID -> what the layer is
    parent: str = ""
