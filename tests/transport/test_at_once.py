"""What is asked of two registries at once: nobody waits for the one before the other is asked."""

import json
import threading

import pytest
from peers import Built, Scripted, digest, tar

from veloci.engine.tasks import ahead, parallel
from veloci.errors import VelociError
from veloci.registry.session import Session
from veloci.spec.reference import Reference
from veloci.transport.copy import copy
from veloci.transport.registry import RegistryPlace

PATIENCE = 5  # seconds until a request is alone


class Meeting:
    """Requests that are answered when the other has come, too; `failed` if it does not."""

    def __init__(self):
        self.barrier, self.failed = threading.Barrier(2), False

    def wait(self):
        try:
            self.barrier.wait(PATIENCE)
        except threading.BrokenBarrierError:
            self.failed = True


def having(built, meeting):
    """A registry with an image."""
    blobs = {digest(each): each for each in (built.config, *built.layers)}

    def answer(request):
        last = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            meeting.wait()
            return request.reply(200, built.manifest, Content_Type=built.document["mediaType"])
        if last in blobs:
            return request.reply(200, blobs[last])
        return request.reply(200 if request.path == "/v2/" else 404, b"{}")

    return answer


def lacking(first, second):
    """A registry without it: `first` meets the source, config and layer meet at `second`."""
    taken = []

    def answer(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if "/manifests/" in request.path:
            if request.command == "PUT":
                taken.append(request.body)
                return request.reply(201)
            first.wait()
        if request.command == "POST":
            second.wait()
            taken.append(request.body)
            return request.reply(201)
        return request.reply(404)

    return answer, taken


def place(server):
    return RegistryPlace(Reference.parse(f"{server.address}/app:v0"), Session(wait=0.01))


def test_both_registries_are_asked_at_once_and_the_config_goes_beside_the_layers(tmp_path):
    built = Built(tmp_path / "image", [tar({"a": b"one"})])
    first, second = Meeting(), Meeting()
    answer, taken = lacking(first, second)
    with Scripted(having(built, first)) as source, Scripted(answer) as destination:
        done = copy(place(source), place(destination), parallel=parallel)
    assert (first.failed, second.failed) == (False, False)
    assert done.digest == digest(built.manifest)
    assert sorted(taken[:2]) == sorted([built.config, built.layers[0]])
    assert taken[2:] == [built.manifest]


def test_a_source_that_has_nothing_is_told_though_the_destination_fails_too():
    def nothing(request):
        request.reply(404)

    def forbidden(request):
        request.reply(403)

    with (
        Scripted(nothing) as source,
        Scripted(forbidden) as destination,
        pytest.raises(VelociError, match="not found") as caught,
    ):
        copy(place(source), place(destination), parallel=parallel)
    assert source.address in caught.value.where


def test_a_config_that_is_a_layer_too_is_sent_once(tmp_path):
    """An artifact's, of nothing: both are {} (manifest.md#guidance-for-an-empty-descriptor)."""
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2}
    kind = "application/vnd.oci.image.manifest.v1+json"
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "artifactType": "a/b", "config": empty, "layers": [empty]})
    built = Built(tmp_path / "image")
    built.manifest, built.config, built.layers = raw.encode(), b"{}", []
    there, sent = set(), []

    def answer(request):
        last = request.path.rpartition("/")[2]
        if request.command == "POST":
            sent.append(request.body)
            there.add(digest(request.body))
            return request.reply(201)
        if request.command == "HEAD":
            return request.reply(200 if last in there else 404)
        return request.reply(201 if request.command == "PUT" else 200 if request.path == "/v2/" else 404)

    alone = Meeting()
    alone.wait = lambda: None
    with Scripted(having(built, alone)) as source, Scripted(answer) as destination:
        copy(place(source), place(destination), parallel=parallel)
    assert sent == [b"{}"]


@pytest.mark.parametrize("asker", ["the thread", "one that works for it"])
def test_an_interrupt_ends_what_other_threads_wait_for_and_nothing_later(tmp_path, asker):
    """Only the main thread hears of it. The program may go on, and ask again."""
    built = Built(tmp_path / "layout")
    asked, answered, ended = threading.Event(), threading.Event(), []

    def answer(request):
        if "/manifests/" not in request.path:
            return request.reply(200, b"{}")
        if not asked.is_set():
            asked.set()
            answered.wait(60)
        return request.reply(200, built.manifest, Content_Type=built.document["mediaType"])

    def work(source):
        if source is None:
            assert asked.wait(PATIENCE)
            raise KeyboardInterrupt
        try:
            if asker == "the thread":
                source.manifest()
            else:
                next(ahead(source.manifest() for _ in "1"))
        except KeyboardInterrupt:
            ended.append(not answered.is_set())
            raise

    with Scripted(answer) as server:
        source = place(server)
        with pytest.raises(KeyboardInterrupt):
            list(parallel(work, [None, source]))
        answered.set()
        assert ended == [True]
        assert source.manifest()[1] == built.manifest
