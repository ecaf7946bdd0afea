"""What a collection leaves is exactly what something needs, whatever refers to whatever."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from peers import digest

from veloci.build.cache import Cache
from veloci.content.store import Store
from veloci.engine import prune
from veloci.engine.engine import Engine
from veloci.engine.garbage import collect
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor

PICKS = st.lists(st.integers(0, 5), max_size=3)
MODEL = st.fixed_dictionaries(
    {
        "images": st.lists(st.tuples(PICKS, st.none() | st.integers(0, 3)), min_size=1, max_size=5),  # layers, subject
        "indexes": st.lists(PICKS, max_size=3),  # of documents before them, images and indexes
        "named": st.sets(st.integers(0, 7)),
        "cached": st.sets(st.integers(0, 5)),
        "leased": st.sets(st.integers(0, 5)),
        "missing": st.sets(st.integers(0, 5), max_size=1),  # layers that were never brought
    }
)


class Made:
    """The documents and layers of a model, in a store; `below`: what each document holds, by digest."""

    def __init__(self, engine, model):
        self.store, self.below, self.documents, self.subjects = engine.store, {}, [], {}
        self.layers = [self._put(b"layer %d" % n, media.LAYER) for n in range(6)]
        for number, (picks, subject) in enumerate(model["images"]):
            config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"n": str(number)}}}
            config["rootfs"] = {"type": "layers", "diff_ids": [self.layers[n].digest for n in picks]}
            parts = [self._put(json.dumps(config).encode(), media.CONFIG), *(self.layers[n] for n in picks)]
            manifest = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": parts[0].plain()}
            manifest["layers"] = [part.plain() for part in parts[1:]]
            if subject is not None and self.documents:
                manifest["subject"] = self.documents[subject % len(self.documents)].plain()
            made = self._document(manifest, parts)
            if "subject" in manifest:
                self.subjects[made.digest] = manifest["subject"]["digest"]
        for number, picks in enumerate(model["indexes"]):
            parts = [self.documents[n % len(self.documents)] for n in picks]
            entries = [part.plain() for part in parts]
            index = {"schemaVersion": 2, "mediaType": media.INDEX, "annotations": {"n": str(number)}}
            self._document({**index, "manifests": entries}, parts)

    def _put(self, raw, kind):
        return self.store.put(raw, kind)

    def _document(self, document, parts):
        made = self._put(json.dumps(document).encode(), document["mediaType"])
        self.below[made.digest] = [part.digest for part in parts]
        self.documents.append(made)
        return made

    def reached(self, roots):
        """All that is at or below the digests `roots`."""
        found, todo = set(), list(roots)
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo += self.below.get(at, ())
        return found


@settings(max_examples=25)
@given(MODEL)
def test_a_collection_leaves_what_is_needed_and_nothing_else(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("model")
    engine = Engine(str(path / "data"), str(path / "run"))
    with engine.store.leased():
        made = Made(engine, model)
        named = [made.documents[n % len(made.documents)] for n in model["named"]]
        for number, descriptor in enumerate(named):
            engine.names.set(f"docker.io/library/app:{number}", descriptor)
        for number in model["cached"]:
            layer = made.layers[number]
            record = {"descriptor": layer.plain(), "diffID": layer.digest, "created": "", "chainID": ""}
            Cache(f"{engine.root}/build").put(f"{number}" * 64, record)
    for number in model["missing"]:
        engine.store.remove(made.layers[number].digest)
    other = Store(engine.store.root)  # as of another process, which goes on
    leased = {made.layers[number].digest for number in model["leased"]}
    with other.leased():
        there = {each for each in leased if other.has(next(one for one in made.layers if one.digest == each))}
        collect(engine)
        needed = made.reached(descriptor.digest for descriptor in named)
        needed |= {made.layers[number].digest for number in model["cached"]} | there
        missing = {made.layers[number].digest for number in model["missing"]}
        assert set(engine.store.digests()) == needed - missing
    collect(engine)
    needed = made.reached(descriptor.digest for descriptor in named)
    needed |= {made.layers[number].digest for number in model["cached"]}
    assert set(engine.store.digests()) == needed - missing


def test_what_refers_to_an_image_is_pruned_with_it(tmp_path):
    engine = Engine(str(tmp_path / "data"), str(tmp_path / "run"))
    with engine.store.leased():
        made = Made(engine, {"images": [([0], None), ([1], 0), ([2], None)], "indexes": []})
        engine.names.set("docker.io/library/app:1", made.documents[0])
        for referrer in made.documents[1:]:  # of which the second refers to nothing
            engine.names.set(referrer.digest, referrer)
    prune.images(engine, lambda _listed: True, all=False)
    assert [name for name, _ in engine.names.all()] == ["docker.io/library/app:1", made.documents[1].digest]
    engine.images.remove("app:1")
    prune.images(engine, lambda _listed: True, all=False)
    assert list(engine.names.all()) == list(engine.store.digests()) == []


def test_a_file_that_is_no_blob_stops_no_collection(tmp_path):
    engine = Engine(str(tmp_path / "data"), str(tmp_path / "run"))
    with engine.store.leased():
        raw = dumps({"a": 1})
        engine.names.set("docker.io/library/app:1", engine.store.put(raw, "text/plain"))
        engine.store.put(b"other", "text/plain")
    stray = tmp_path / "data/content/blobs/sha256/stray"
    stray.write_bytes(b"")
    assert collect(engine) == len(b"other")
    assert list(engine.store.digests()) == [digest(raw)]
    assert engine.store.has(Descriptor(media_type="", digest=digest(raw), size=len(raw)))
    assert stray.exists()
