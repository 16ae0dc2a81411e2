"""Faults that change a good answer of the service: its body, the blobs that it lists, its link to the next page."""

import gzip
import zlib
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from emulator.identity import root_of
from emulator.tenant import Answer, State
from emulator.webhook import listed

FOREIGN_HOST = "feed.invalid"
_SPOILT = (EOFError, OSError, zlib.error, msgspec.DecodeError, IndexError)


class Fault(Protocol):
    """The parameters of a table of a script, as far as faults read them."""

    @property
    def number(self) -> int:
        """Which table it is."""

    @property
    def seconds(self) -> float | None:
        """How long it lasts."""

    @property
    def retry_after(self) -> int | None:
        """What `Retry-After` says."""

    @property
    def code(self) -> str | None:
        """The error code."""

    @property
    def status(self) -> int | None:
        """The HTTP status."""

    @property
    def items(self) -> float | None:
        """The share of listed blobs."""


Items = list[dict[str, Any]]


async def spoil_body(
    _: Fault, __: State, request: Request, answer: Answer, *, spoil: Callable[[bytes], bytes], packed: bool = False
) -> Response:
    """Changes the body of a good answer, as gzip or as plain text, unless another fault has spoilt it beyond that."""
    response = await answer(request)
    if response.status_code != 200:
        return response
    body = bytes(response.body)
    try:
        if packed != (response.headers.get("content-encoding") == "gzip"):
            body = gzip.compress(body, 1, mtime=0) if packed else gzip.decompress(body)
        body = spoil(body)
    except _SPOILT:
        return response
    spoilt = Response(body, headers=dict(response.headers) | {"content-length": str(len(body))})
    if packed:
        spoilt.headers["content-encoding"] = "gzip"
    elif "content-encoding" in spoilt.headers:
        del spoilt.headers["content-encoding"]
    return spoilt


async def change_items(
    fault: Fault,
    state: State,
    request: Request,
    answer: Answer,
    *,
    change: Callable[[Items, Fault, State, Request], Items],
) -> Response:
    """Changes which blobs a page lists."""

    def spoil(body: bytes) -> bytes:
        return msgspec.json.encode(change(msgspec.json.decode(body), fault, state, request))

    return await spoil_body(fault, state, request, answer, spoil=spoil)


async def mangle_link(
    _: Fault, __: State, request: Request, answer: Answer, *, mangle: Callable[[str, Request], str]
) -> Response:
    """Changes the link to the next page, if there is one."""
    response = await answer(request)
    if "nextpageuri" in response.headers:
        response.headers["nextpageuri"] = mangle(response.headers["nextpageuri"], request)
    return response


async def blank_link(_: Fault, __: State, request: Request, answer: Answer) -> Response:
    """Gives the last page a header that leads nowhere."""
    response = await answer(request)
    if response.status_code == 200 and "nextpageuri" not in response.headers:
        response.headers["nextpageuri"] = ""
    return response


def without_some(items: Items, fault: Fault, state: State, _: Request) -> Items:
    """Leaves out a share of the blobs, the same ones each time."""
    kept = []
    for item in items:
        drawn = blake2b(f"{fault.number}/{item['contentId']}".encode(), digest_size=8).digest()
        if int.from_bytes(drawn, "big") >= (fault.items or 0) * 2**64:
            kept.append(item)
        else:
            _unlist(state, item)
    return kept


def with_last_of_page_before(items: Items, _: Fault, state: State, request: Request) -> Items:
    """Lets a page begin with the blob that the page before ended with."""
    params = {name.lower(): value for name, value in request.query_params.items()}
    after = params.get("nextpage", "").partition("$")[0]
    tenant = state.tenant(request.path_params["tenant_id"])
    found = [blob for blob in tenant.by_id.values() if blob.order == after] if tenant and items else []
    feed = f"{root_of(request)}/api/v1.0/{request.path_params['tenant_id']}/activity/feed"
    return [listed(blob, feed) for blob in found if blob.content_type == items[0]["contentType"]] + items


def backwards(items: Items, _: Fault, __: State, ___: Request) -> Items:
    """Turns the order of a page around."""
    return items[::-1]


def in_capitals(uri: str, _: Request) -> str:
    """Writes the names of parameters in capitals."""
    parts = urlsplit(uri)
    pairs = (pair.partition("=") for pair in parts.query.split("&"))
    return parts._replace(query="&".join(name.upper() + sign + value for name, sign, value in pairs)).geturl()


def corrupt(packed: bytes) -> bytes:
    """Changes a byte of the checksum: every reader that looks at it sees that, whatever the records are."""
    return packed[:-8] + bytes([packed[-8] ^ 0xFF]) + packed[-7:]


def misshapen(body: bytes) -> bytes:
    """Puts JSON into a shape that nobody expects."""
    return b'{"value":' + body + b"}" if body.lstrip().startswith(b"[") else b"[" + body + b"]"


def _unlist(state: State, item: dict[str, Any]) -> None:
    for tenant in state.tenants.values():
        if item["contentId"] in tenant.by_id:
            tenant.by_id[item["contentId"]].listed -= 1
