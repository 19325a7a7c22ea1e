"""What the page's server lets in: requests within limits, from its own page, with its token.

A camera is worth guarding even on 127.0.0.1: every page that the browser has open can send
requests there, and a name whose address changes ("DNS rebinding") could make them look like ours.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import re
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

URL_BYTES = 2048
HEADER_BYTES = 16 * 1024
"""For each line of a request's head, and for all its headers together."""
BODY_BYTES = 64 * 1024
_SECONDS_TO_ASK = 10.0


class Refusal(Exception):  # noqa: N818 (an answer to one request, no failure of the program)
    """A request that is not answered, with the HTTP status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes

    def field(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """A field of the JSON object that the body holds, of type `kind`.

        Raises:
            Refusal: there is none.
        """
        # A page elsewhere cannot send this type without asking first, which is refused.
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the request is not JSON")
        try:
            value = json.loads(self.body)[name]
        except (ValueError, LookupError, TypeError, RecursionError):
            value = None
        if not isinstance(value, kind):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the request has no {name}")
        return value


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read one request; `reader` must have been made with the limit HEADER_BYTES.

    Raises:
        Refusal: it is too long, too slow, or no HTTP.
        EOFError: the connection ended before the request did.
    """
    try:
        async with asyncio.timeout(_SECONDS_TO_ASK):
            return await _read(reader)
    except TimeoutError:
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time") from None


async def _read(reader: asyncio.StreamReader) -> Request:
    line = await _line(reader, Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long"))
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[1].startswith("/") or not words[2].startswith("HTTP/1."):
        raise Refusal(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
    method, target, _ = words
    if len(target) > URL_BYTES:
        raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
    headers = await _headers(reader)
    path, _, query = target.partition("?")
    try:
        pairs = dict(parse_qsl(query, max_num_fields=16))
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the URL has too many fields") from None
    return Request(method, path, pairs, headers, await _body(reader, method, headers))


async def _headers(reader: asyncio.StreamReader) -> Message:
    too_long = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long")
    block = b""
    while (line := await _line(reader, too_long)).strip():
        block += line
        if len(block) > HEADER_BYTES:
            raise too_long
    try:
        return parse_headers(BytesIO(block + b"\r\n"))
    except HTTPException:  # more than a hundred
        raise too_long from None


async def _line(reader: asyncio.StreamReader, too_long: Refusal) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise too_long from None


async def _body(reader: asyncio.StreamReader, method: str, headers: Message) -> bytes:
    if method != "POST":
        return b""
    length = headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the request does not tell its length")
    # Its digits are counted first: a number of thousands of digits is an error to int().
    if len(length) > 9 or int(length) > BODY_BYTES:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too long")
    return await reader.readexactly(int(length))


class Guard:
    """Decides whose requests are answered.

    Args:
        address: what the server is bound to.
        name: what the person called it.
        token: what requests must carry in their URL as `?token=`; None if nothing.
    """

    def __init__(self, address: str, name: str, token: str | None) -> None:
        self._token = token
        self._is_everywhere = ipaddress.ip_address(address).is_unspecified
        self._names = {address, name.lower()}
        if ipaddress.ip_address(address).is_loopback:
            self._names |= {"localhost", "127.0.0.1", "::1"}

    def check(self, request: Request) -> None:
        """Let `request` pass.

        Raises:
            Refusal: it asks for another host, comes from another origin, or lacks the token.
        """
        headers = request.headers
        host = headers.get("Host", "")
        if not self._is_ours(host):
            raise _forbidden("open the address that streamdeblur printed; this one is not known")
        if headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise _forbidden("other pages may not use this server")
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # A link may lead here; what it opens cannot be read by the page that has the link.
            is_link = headers.get("Sec-Fetch-Dest") == "document" and request.path == "/"
            if not is_link or request.method != "GET":
                raise _forbidden("other pages may not use this server")
        if self._token is not None:
            given = request.query.get("token", "")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise _forbidden("the token is missing or wrong: open the printed address, whole")

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server.

        Bound to every address, it cannot know them all (there may be a container's or a router's
        in front), and lets any address pass but no name: rebinding takes a name.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names or not self._is_everywhere:
                return name in self._names
            return name == "localhost" or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def guarding_headers(page: bytes) -> tuple[str, ...]:
    """What browsers are told: run nothing but what stands in `page`, and show it to no other."""
    return (
        f"Content-Security-Policy: {content_policy(page)};"
        " connect-src 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        "Cross-Origin-Resource-Policy: same-origin",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",  # the URL holds the token
        "Cache-Control: no-store",
    )


def content_policy(page: bytes) -> str:
    """A policy by which a page may run and look like what stands in it, and load nothing."""

    def allowed(tag: bytes) -> str:
        texts = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
        return " ".join(f"'sha256-{value}'" for value in hashes)

    return (
        f"default-src 'none'; script-src {allowed(b'script')}; style-src {allowed(b'style')};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _forbidden(reason: str) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, reason)
