"""`veloci image prune`, `builder prune`, `container prune`, `network prune` and `system prune`."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from veloci.engine.usage import CacheUse

_ALL_IMAGES = "all images without at least one container associated to them"


def image(*, all: bool = False, filter: tuple[str, ...] = (), force: bool = False) -> int:
    """Remove the images without a name.

    -a, --all     all images that no container was made of
    --filter KEY=VALUE  only those: until=24h (older), label=KEY[=VALUE], label!=KEY[=VALUE]; may be repeated
    -f, --force   do not ask
    """
    from veloci.engine import prune
    from veloci.engine.engine import Engine

    asked = Asked(filter, ("until", "label", "label!"))
    if not agreed(f"WARNING! This will remove {_ALL_IMAGES if all else 'all dangling images'}.", force=force):
        return 0
    done, freed = prune.images(Engine(), asked.image, all=all)
    _images(done)
    _total(freed)
    return 0


def builder(
    *,
    all: bool = False,
    filter: tuple[str, ...] = (),
    force: bool = False,
    keep_storage: str = "",
    verbose: bool = False,
) -> int:
    """Remove the build cache that no image needs.

    What a running build uses stays. A step whose result is gone is done again by the next build.

    -a, --all             the whole build cache
    --filter KEY=VALUE    only what: until=24h or unused-for=24h (not used since), id=ID, type=TYPE (regular,
                          source.local, exec.cachemount), description=TEXT, shared=BOOL; may be repeated
    -f, --force           do not ask
    --keep-storage, --reserved-space SIZE  let so much of it stay (512m, 10g), the least recently used goes first
    --verbose             a line for each with its type, size and what it is
    """
    from veloci.engine import prune
    from veloci.engine.engine import Engine
    from veloci.engine.usage import Usage

    asked = Asked(filter, ("until", "unused-for", "id", "type", "description", "shared"))
    keep = _bytes(keep_storage) if keep_storage else None
    if not agreed(f"WARNING! This will remove all {'' if all else 'dangling '}build cache.", force=force):
        return 0
    engine = Engine()
    about = {each.name: each for each in Usage(engine).cache()} if verbose else {}
    gone, freed = prune.cache(engine, asked.cache, all=all, keep=keep)
    _cache(gone, about)
    _total(freed)
    return 0


def container(*, filter: tuple[str, ...] = (), force: bool = False) -> int:
    """Remove the containers that have ended or were never started.

    --filter KEY=VALUE  only those: until=24h (made before), label=KEY[=VALUE], label!=KEY[=VALUE]; may be repeated
    -f, --force   do not ask
    """
    from veloci.engine import prune
    from veloci.engine.engine import Engine

    asked = Asked(filter, ("until", "label", "label!"))
    if not agreed("WARNING! This will remove all stopped containers.", force=force):
        return 0
    gone, freed = prune.containers(Engine(), lambda record: asked.fits(record.created / 1e9, record.labels))
    _section("Deleted Containers:", gone)
    _total(freed)
    return 0


def network(*, filter: tuple[str, ...] = (), force: bool = False) -> int:
    """Remove the networks that no container has.

    --filter KEY=VALUE  only those: label=KEY[=VALUE], label!=KEY[=VALUE]; may be repeated
    -f, --force   do not ask
    """
    from veloci.engine import prune
    from veloci.engine.engine import Engine

    asked = Asked(filter, ("label", "label!"))
    if not agreed("WARNING! This will remove all custom networks not used by at least one container.", force=force):
        return 0
    _section("Deleted Networks:", prune.networks(Engine(), lambda network: asked.fits(0.0, network.labels)))
    return 0


def system(*, all: bool = False, filter: tuple[str, ...] = (), force: bool = False, volumes: bool = False) -> int:
    """Remove what nobody uses: stopped containers, networks, images without a name, the build cache.

    -a, --all     all images that no container was made of, and the whole build cache
    --filter KEY=VALUE  only those: until=24h, label=KEY[=VALUE], label!=KEY[=VALUE]; may be repeated
    -f, --force   do not ask
    --volumes     also the anonymous volumes that no container has
    """
    from veloci.engine import prune
    from veloci.engine.engine import Engine

    asked = Asked(filter, ("until", "label", "label!"))
    if volumes and asked.since:
        raise InvalidInput("the 'until' filter cannot be used with --volumes", where="--filter")
    items = ["all stopped containers", "all networks not used by at least one container"]
    items += ["all anonymous volumes not used by at least one container"] * volumes
    items += [_ALL_IMAGES, "all build cache"] if all else ["all dangling images", "unused build cache"]
    lines = "\n".join(["WARNING! This will remove:", *(f"  - {item}" for item in items), ""])
    if not agreed(lines, force=force):
        return 0
    engine = Engine()
    gone, freed = prune.containers(engine, lambda record: asked.fits(record.created / 1e9, record.labels))
    _section("Deleted Containers:", gone)
    _section("Deleted Networks:", prune.networks(engine, lambda network: asked.fits(0.0, network.labels)))
    if volumes:
        names, count = engine.volumes.prune(lambda each: each.anonymous and asked.fits(0.0, each.labels))
        _section("Deleted Volumes:", names)
        freed += count
    done, count = prune.images(engine, asked.image, all=all)
    _images(done)
    freed += count
    if not asked.labels:  # the build cache has none
        gone, count = prune.cache(engine, asked.cache, all=all)
        _cache(gone, {})
        freed += count
    _total(freed)
    return 0


class Asked:
    """What --filter asks for. since: seconds since 1970, of which a thing has to be older; 0.0 for any."""

    def __init__(self, filters: Iterable[str], known: tuple[str, ...]) -> None:
        self.since = 0.0
        self.labels: list[tuple[str, bool]] = []
        self.others: dict[str, list[str]] = {}
        for text in filters:
            key, equals, value = text.partition("=")
            if key not in known or not equals:
                hint = "KEY=VALUE; a key is " + ", ".join(known)
                status = None if equals else 125  # docker's, when a flag's grammar is wrong
                raise InvalidInput(f"invalid filter {text!r}", where="--filter", hint=hint, exit_status=status)
            if key in ("until", "unused-for"):
                self.since = moment_before(value)
            elif key.startswith("label"):
                self.labels.append((value, key == "label"))
            else:
                self.others.setdefault(key, []).append(value)

    def fits(self, created: float, labels: Mapping[str, str]) -> bool:
        """Whether a thing of that age (0.0: unknown) with those labels is meant."""
        if self.since and created > self.since:
            return False
        return all(_labelled(labels, text) == wanted for text, wanted in self.labels)

    def image(self, listed: object) -> bool:
        """Whether an engine.images.Listed is meant."""
        from veloci.cli.output import moment

        image = getattr(listed, "image", None)
        if image is None:
            return not self.labels
        return self.fits(moment(image.config.created), image.config.config.labels)

    def cache(self, use: CacheUse) -> bool:
        """Whether a part of the build cache is meant."""
        has = {
            "id": use.name,
            "type": use.kind,
            "description": use.about,
            "shared": str(use.shared).lower(),
        }
        fits = all(
            any(value in has[key] if key == "description" else has[key].startswith(value) for value in values)
            for key, values in self.others.items()
        )
        return fits and self.fits(use.used, {})


def _labelled(labels: Mapping[str, str], text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def moment_before(text: str) -> float:
    """`24h`, `1h30m` or `10d` before now, or a date, as seconds since 1970. Raises InvalidInput."""
    import re
    from time import time

    from veloci.cli.output import moment

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        return time() - sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
    found = float(text) if re.fullmatch(r"\d{6,}", text) else moment(text)
    if not found:
        raise InvalidInput(f"{text!r} is no time", where="--filter", hint="24h, 1h30m, 2024-05-01T10:00:00Z")
    return found


def _bytes(text: str) -> int:
    from veloci.bundle.values import size

    return size(text, "--keep-storage")


def agreed(warning: str, *, force: bool) -> bool:
    """Print what will happen and ask; --force does not ask."""
    import sys

    if force:
        return True
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _section(title: str, lines: list[str]) -> None:
    if lines:
        print("\n".join([title, *lines, ""]))


def _images(done: list[tuple[str, str]]) -> None:
    _section("Deleted Images:", [f"{verb.lower()}: {what}" for verb, what in done])


def _cache(gone: list[str], about: Mapping[str, CacheUse]) -> None:
    from veloci.cli.output import size, visible

    lines = []
    for name in gone:
        use = about.get(name)
        lines.append(f"{name}  {use.kind}  {size(use.size)}  {visible(use.about)}" if use else name)
    _section("Deleted build cache objects:", lines)


def _total(freed: int) -> None:
    from veloci.cli.output import size

    print(f"Total reclaimed space: {size(freed)}")
