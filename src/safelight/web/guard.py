"""Who may ask: one door in front of every address of the page.

A link with a token that is good once gives a cookie; everything else needs the cookie. Another site cannot
read (its name is no allowed Host, so rebinding ends here) nor write: a write needs this page's Origin, JSON
and a header that no form can send. The page itself may load nothing from elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
MOST = 8 << 20  # bytes of a request, such as one with a picture
LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
    """The door. Use `link` for an address that lets a browser in once."""

    def __init__(
        self,
        app: ASGIApp,
        port: int,
        host: str = "127.0.0.1",
        used: Callable[[], object] = lambda: None,
        begin: str = "/",
    ) -> None:
        """host: what the server listens on. used: called when a link was used up. begin: where links lead."""
        self.app, self.used, self.begin = app, used, begin
        self.cookie = f"safelight-{port}"
        self._secret = secrets.token_urlsafe(32)
        self._token = secrets.token_urlsafe(32)
        self._everywhere = host not in LOCAL
        self._names = {*LOCAL, host}

    def link(self) -> str:
        """A path that lets one browser in, once; the one before is no longer good."""
        self._token = secrets.token_urlsafe(32)
        return f"/enter?token={self._token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                MutableHeaders(scope=message).setdefault("cache-control", "no-store")
            await send(message)

        answer = self._answer(scope)
        if answer is None:
            await self.app(scope, self._limited(receive), sealed)
        else:
            await answer(scope, receive, sealed)

    def _answer(self, scope: Scope) -> Response | None:
        """What to say instead of letting a request through; None for one that may pass."""
        headers = Headers(scope=scope)
        if not self._is_own(headers.get("host", "")):
            return PlainTextResponse("this server does not go by that name", 421)
        if scope["path"] == "/enter":
            token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                return _closed("This link was used already, or is another server's.")
            self._token = secrets.token_urlsafe(32)
            self.used()
            inside = RedirectResponse(self.begin, 303)
            inside.set_cookie(self.cookie, self._secret, httponly=True, samesite="strict", path="/")
            return inside
        if not hmac.compare_digest(_cookie(headers, self.cookie).encode(), self._secret.encode()):
            return _closed("This page needs its link.")
        if scope["method"] in ("GET", "HEAD"):
            return None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        same_origin = headers.get("origin") == f"{scope['scheme']}://{headers.get('host', '')}"
        if not same_origin or kind != "application/json" or headers.get("x-safelight") != "1":
            return PlainTextResponse("a write comes from this page alone", 403)
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MOST:
            return PlainTextResponse(f"say content-length, at most {MOST:,}", 413)
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host names this server. An address cannot be rebound, so that with --host any is good."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.strip("[]").lower()
        if name in self._names:
            return True
        try:
            return self._everywhere and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    @staticmethod
    def _limited(receive: Receive) -> Receive:
        """No more bytes than were announced at most."""
        left = MOST

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        return limited


def _cookie(headers: Headers, name: str) -> str:
    pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _closed(why: str) -> Response:
    return PlainTextResponse(f"{why} The terminal where safelight web runs shows one that is good.\n", 401)
