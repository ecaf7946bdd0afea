"""`veloci inspect` of an image anywhere, without bringing it here: what `skopeo inspect` shows."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.cli.sessions import RegistryOptions
    from veloci.spec.image import Descriptor
    from veloci.spec.reference import Reference
    from veloci.transport.place import Source

# The order in which Go's image-spec writes what it knows; what else there is stands behind.
_CONFIG = "created author architecture variant os os.version os.features config rootfs history".split()
_CONTAINER = "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal".split()


def is_place(name: str) -> bool:
    """Whether a name says where the image is: docker://…, oci:…"""
    from veloci.transport.names import KINDS

    return name.startswith(KINDS) or "://" in name


def inspect(
    name: str,
    *,
    raw: bool,
    config: bool,
    format: str | None,
    tags: bool,
    platform: str | None,
    daemon: str | None,
    blobs: str | None,
    registry: RegistryOptions,
) -> None:
    """Print what is known of the image `name`.

    raw: the manifest's bytes, or with `config` the configuration's, as they are. tags: list those of its
    repository too. daemon, blobs: see Places. Raises what reading the place raises.
    """
    import sys

    from veloci.cli.output import show
    from veloci.cli.sessions import session, source
    from veloci.spec.document import dumps

    if raw and format:
        raise InvalidInput("shows bytes as they are, --format does not", where="--raw", hint="leave one of them out")
    with source(name, session(registry), daemon=daemon, blobs=blobs) as place:
        if raw:
            data = _config(place, platform)[1] if config else place.manifest()[1]
            if sys.stdout.isatty():
                show(data.decode(errors="backslashreplace"))
                return
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            return
        if config:
            found = _ordered(_object(_config(place, platform)[1], place.name))
        else:
            found = _described(place, platform, _reference(name), tags=tags)
    if format in (None, "", "json"):
        show(dumps(found, indent=0 if format else 4).decode() + "\n")
        return
    from veloci.cli.template import Template

    values = _capitalised(found) if config else _named(found)
    show(Template(format.replace("\\t", "\t").replace("\\n", "\n")).render(values) + "\n")


def _reference(name: str) -> Reference | None:
    from veloci.spec.reference import Reference

    return Reference.parse(name.removeprefix("docker://")) if name.startswith("docker://") else None


def _chosen(place: Source, platform: str | None) -> tuple[Descriptor, bytes]:
    """The manifest of the image, the one for a platform where there are several."""
    from veloci.spec.platform import parse
    from veloci.transport.select import select

    return select(place, *place.manifest(), parse(platform) if platform else None)


def _config(place: Source, platform: str | None) -> tuple[Any, bytes]:
    """The manifest, decoded, and the configuration's bytes."""
    from veloci.spec.image import Manifest
    from veloci.transport.select import small

    descriptor, raw = _chosen(place, platform)
    manifest = Manifest.decode(raw, name=f"manifest {descriptor.digest}")
    return manifest, small(place, manifest.config)


def _described(place: Source, platform: str | None, reference: Reference | None, *, tags: bool) -> dict[str, Any]:
    """What is known of the image, in skopeo's shape."""
    from veloci.spec import media
    from veloci.spec.image import ImageConfig
    from veloci.transport.registry import RegistryPlace

    manifest, raw = _config(place, platform)
    if manifest.config.media_type not in media.CONFIGS:
        kind = manifest.artifact_type or manifest.config.media_type
        raise InvalidInput(f"it is an artifact, {kind}", where=place.name, hint="--raw shows its manifest")
    config = ImageConfig.decode(raw, name=f"config {manifest.config.digest}")
    inner = config.config
    listed = list(place.repository.tags()) if tags and isinstance(place, RegistryPlace) else []
    docker = manifest.media_type == media.DOCKER_MANIFEST
    return {
        **({"Name": f"{reference.registry}/{reference.repository}"} if reference else {}),
        "Digest": place.manifest()[0].digest,
        "RepoTags": listed,
        "Created": config.created or ("0001-01-01T00:00:00Z" if docker else None),
        "DockerVersion": _field(raw, "docker_version"),
        "Labels": inner.labels or None,
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        "Layers": [layer.digest for layer in manifest.layers],
        "LayersData": [
            {
                "MIMEType": layer.media_type,
                "Digest": layer.digest,
                "Size": layer.size,
                "Annotations": layer.annotations or None,
            }
            for layer in manifest.layers
        ],
        "Env": list(inner.env) or None,
    }


def _field(raw: bytes, name: str) -> str:
    from veloci.spec.document import loads

    return str(loads(raw).get(name) or "")


def _object(raw: bytes, where: str) -> dict[str, Any]:
    """A configuration, an image's or an artifact's, as it stands. Raises InvalidInput."""
    from veloci.spec.document import loads

    try:
        found = loads(raw)
    except ValueError as error:
        raise InvalidInput(f"its config is not JSON: {error}", where=where) from None
    if not isinstance(found, dict):
        raise InvalidInput("its config is no JSON object", where=where, hint="--raw --config shows its bytes")
    return found


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration in the order in which Go's image-spec writes it."""
    inner = config.get("config")
    return _first({**config, "config": _first(inner, _CONTAINER) if isinstance(inner, dict) else {}}, _CONFIG)


def _first(value: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    known = {key: value[key] for key in keys if value.get(key) or (key == "config" and key in value)}
    return known | {key: item for key, item in value.items() if key not in keys}


def _named(found: dict[str, Any]) -> Any:
    """What skopeo's templates see; its JSON leaves out a name and a tag that are not there."""
    from veloci.cli.go_types import struct, typed

    return struct({"Tag": "", "Name": "", **typed({**found, "Created": _time(found["Created"])})}, {}, shown=found)


def _capitalised(config: dict[str, Any]) -> Any:
    """A configuration under the names of Go's fields: `.Config.Env`, `.RootFS.DiffIDs`, `.History`."""
    from veloci.cli.go_types import struct, typed

    rootfs = config.get("rootfs") or {}
    names = {"os.version": "OSVersion", "os.features": "OSFeatures", "os": "OS", "rootfs": "RootFS"}
    empty: dict[str, Any] = {"Author": "", "Variant": "", "Created": None}
    found = empty | {names.get(key, key[:1].upper() + key[1:]): value for key, value in config.items()}
    found["Created"] = _time(config.get("created"))
    value = typed(found)
    value["RootFS"] = struct({"Type": rootfs.get("type", ""), "DiffIDs": rootfs.get("diff_ids", [])}, {}, shown=rootfs)
    value["History"] = [_step(step) for step in config.get("history") or []]
    return struct(value, {"OSVersion": "", "OSFeatures": []}, shown=config)


def _step(step: dict[str, Any]) -> Any:
    from veloci.cli.go_types import struct, typed

    fields = {
        "Created": _time(step.get("created")),
        "CreatedBy": step.get("created_by", ""),
        "Author": step.get("author", ""),
        "Comment": step.get("comment", ""),
        "EmptyLayer": step.get("empty_layer", False),
    }
    return struct(typed(fields), {}, shown=step)


def _time(text: str | None) -> str | None:
    from veloci.cli.template_print import Time

    return Time(text) if text else None
