"""`veloci repack`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from veloci.cli.surgery import Way
    from veloci.snapshot.repack import Bundle
    from veloci.transport.edited import Edited


def repack(
    bundle: str,
    image: str,
    /,
    *,
    base: str | None = None,
    mask_path: tuple[str, ...] = (),
    no_mask_volumes: bool = False,
    refresh_bundle: bool = False,
    compress: str = "gzip",
    no_history: bool = False,
    history_created_by: str = "veloci repack",
    history_comment: str = "",
    history_author: str = "",
    quiet: bool = False,
    registry: RegistryOptions,
) -> int:
    """Make a layer of what changed in a bundle since `veloci unpack` or `umoci unpack`; write the image with it.

    IMAGE is a place to write to (see veloci copy --help).

    --base IMAGE          the place of the image that was unpacked (default: where it was; IMAGE if umoci unpacked it)
    --mask-path PATH      leave out changes of this path, and below it; may be repeated
    --no-mask-volumes     do not leave out the image's volumes
    --refresh-bundle      note in the bundle that it has what the new image has
    --compress KIND[:LEVEL]  how the layer is compressed: gzip (default), zstd or none
    --no-history          leave no step in the history
    --history-created-by TEXT  the step's command
    --history-comment TEXT     the step's comment
    --history-author NAME      the step's author
    -q, --quiet           print nothing
    """
    from veloci.cli.copy import compression
    from veloci.cli.surgery import Way
    from veloci.cli.unpack import lasting
    from veloci.image.draft import step
    from veloci.snapshot.repack import changed, layer, read, refresh

    found, way = read(bundle), Way(registry)
    kind, level = compression(compress) or ("gzip", None)
    source = _base(way, found, base or found.image or image)
    try:
        volumes = () if no_mask_volumes else _volumes(source)
        paths, removed = changed(bundle, found, [*mask_path, *volumes])
        if paths or removed:
            added, diff_id = source.add(layer(bundle, found, paths, removed), kind, level)
            history = None if no_history else step(history_created_by, history_comment, history_author)
            source.draft.append(added, diff_id, history)
    except BaseException:
        source.__exit__()
        raise
    done = way.written(source, image, quiet=quiet)
    if refresh_bundle:
        refresh(bundle, found, done, lasting(image))
    return 0


def _base(way: Way, found: Bundle, place: str) -> Edited:
    """The image that the bundle was unpacked from, by its digest. Raises NotFound, InvalidInput."""
    from veloci.transport.edited import Edited

    source = way.source(place)
    return Edited(source, *source.manifest(found.descriptor))


def _volumes(source: Edited) -> Sequence[str]:
    inner = source.draft.config.get("config") or {}
    return list(inner.get("Volumes") or {})
