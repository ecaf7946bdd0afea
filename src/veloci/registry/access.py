"""A repository at one endpoint: its address, the scopes of its tokens, requests to it."""

from __future__ import annotations

from veloci.blocks import contextmanager
from veloci.registry.answers import document, passing, unreachable
from veloci.registry.failures import Failure
from veloci.registry.session import TRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from veloci.registry.auth import Auth
    from veloci.registry.configuration import Endpoint
    from veloci.registry.session import Session
    from veloci.registry.wire import Response


class Access:
    """The repository that an endpoint names, as `session` reaches it. where: what the user calls it, for errors."""

    def __init__(self, session: Session, endpoint: Endpoint, where: str) -> None:
        self.session, self.endpoint, self.where = session, endpoint, where

    @property
    def name(self) -> str:
        """The repository's name there."""
        return self.endpoint.repository

    @property
    def host(self) -> str:
        """The registry, as the user knows it."""
        return self.endpoint.registry

    @property
    def origin(self) -> str:
        """scheme://host[:port]. Raises Unavailable."""
        return self.session.origin(self.endpoint.registry, insecure=self.endpoint.insecure)

    @property
    def base(self) -> str:
        """The address below which everything of the repository is."""
        return f"{self.origin}/v2/{self.name}"

    @property
    def auth(self) -> Auth:
        """What is known of us there."""
        return self.session.auth(self.endpoint)

    def scope(self, actions: str = "pull") -> str:
        """The scope of a token for some actions: "pull", "pull,push", "delete"."""
        return f"repository:{self.name}:{actions}"

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        scope: str = "",
        ok: tuple[int, ...] = (200,),
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        where: str = "",
    ) -> Generator[Response]:
        """`Session.request` as this repository."""
        with self.session.request(
            method,
            url,
            auth=self.auth,
            scope=scope or self.scope(),
            ok=ok,
            headers=headers,
            body=body,
            where=where or self.where,
        ) as response:
            yield response

    def document(self, url: str, headers: dict[str, str] | None = None, *, scope: str = "") -> tuple[Response, bytes]:
        """An answer and its whole, small body; tried again when the connection is cut."""
        for attempt in range(1, TRIES + 1):
            with self.request("GET", url, headers=headers, scope=scope) as response:
                try:
                    return response, document(response, self.where)
                except Failure as error:
                    if attempt == TRIES or not passing(error):
                        raise unreachable(error, self.host, self.where) from None
            self.session.pause(attempt, None)
        raise AssertionError("unreachable")
