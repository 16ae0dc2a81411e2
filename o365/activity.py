"""The Office 365 Management Activity API of one tenant.

    list_content(type, range) ─▶ page ─▶ page … ─▶ ContentBlob …        retrieve(blob) ─▶ bytes

Every call: quota ─▶ token ─▶ request ─▶ refused? typed error : answer read and checked ─▶ retried up to a deadline.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from o365.address import FeedAddress
from o365.answers import is_html
from o365.calls import Calls, Counts, Request
from o365.connection import Connection
from o365.errors import ListingChangedError, RetryableError
from o365.identity import Tokens, TokenSource
from o365.listing import Notification, Subscription, content_blob, notification, objects, started, subscription
from o365.throttle import Governor
from o365.transport import Answer, Transport
from schemas.contract import limits
from schemas.feed import ContentBlob
from schemas.times import TimeRange, format_wire

_T = TypeVar("_T")
_MAX_PAGES = 10_000


class ActivityClient:
    """Calls the activity API for one connection; any number of threads may share it.

    Args:
      connection: Which tenant, and as whom.
      governor: The tenant's request budget; one of its own by default.
      transport: Sends the requests, and may be shared; one of its own by default.
      tokens: Gives access tokens; the connection's sign-in by default.
      clock: Monotonic seconds.
      sleep: Waits for seconds.
      jitter: A number from 0 to 1, new at each call.
      deadline_s: Seconds after its first failure at which a call is given up.
      max_blob_bytes: Most bytes of a blob after decompression.

    Raises:
      ConfigError: The connection's CA file cannot be used.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        governor: Governor | None = None,
        transport: Transport | None = None,
        tokens: Tokens | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        deadline_s: float = 300.0,
        max_blob_bytes: int = 1 << 30,
    ) -> None:
        self.connection = connection
        self.governor = governor or Governor(share=1 / connection.workers, clock=clock, sleep=sleep, jitter=jitter)
        self._max_blob_bytes = max_blob_bytes
        self._transport = transport or Transport(ca_file=connection.ca_file, timeout_s=connection.timeout_s)
        self._calls = Calls(
            transport=self._transport,
            tokens=tokens or TokenSource(connection, self._transport, clock=clock),
            governor=self.governor,
            clock=clock,
            sleep=sleep,
            jitter=jitter,
            deadline_s=deadline_s,
        )
        publisher = connection.publisher_id or connection.tenant_id
        self._address = FeedAddress(connection.api_address, connection.tenant_id, publisher)

    def list_subscriptions(self, *, deadline_s: float | None = None) -> list[Subscription]:
        """Lists the subscriptions this application has ever started.

        Args:
          deadline_s: Seconds after the first failure to give up; short where a person waits for the first contact.
        """
        what = "listing the subscriptions"
        request = Request("GET", self._address.operation("subscriptions/list"), what, deadline_s=deadline_s)
        return self._calls.send(request, lambda answer: [subscription(item, what) for item in _objects(answer, what)])

    def start_subscription(self, content_type: str) -> bool:
        """Starts or enables a subscription.

        Returns:
          Whether that changed anything.

        Raises:
          RetryableError: The service wants a wait first, usually of minutes; `retry_after_s` says how long.
        """
        request = self._subscription_request("start", content_type)

        def read(answer: Answer) -> bool:
            if answer.status >= 300:
                return False  # an unchanged subscription is refused with a code that the table calls ok
            return bool(started(answer.body, request.what).content_type)

        return self._calls.send(request, read)

    def stop_subscription(self, content_type: str) -> None:
        """Stops a subscription. What becomes available until it is started again is lost for good."""
        self._calls.send(self._subscription_request("stop", content_type), lambda _: None)

    def ensure_subscribed(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Starts what is not enabled among the wanted content types; asks first, because starts are rationed.

        Returns:
          The content types that were started.
        """
        enabled = {found.content_type.lower() for found in self.list_subscriptions() if found.is_enabled}
        missing = [content_type for content_type in wanted if content_type.lower() not in enabled]
        return tuple(content_type for content_type in missing if self.start_subscription(content_type))

    def list_content(
        self, content_type: str, time_range: TimeRange, *, deadline_s: float | None = None
    ) -> Iterator[ContentBlob]:
        """Lists the blobs that became available in a range, each once, page by page.

        The listing is complete only where the iteration ends without an error.

        Args:
          content_type: One of the feed's content types.
          time_range: Available time, whole seconds, at most 24 hours, within the last 7 days.
          deadline_s: Seconds after its first failure at which a page is given up; the client's own by default.

        Raises:
          NotSubscribedError: No subscription of the content type is enabled.
          WindowError: The service does not list this range.
          ListingChangedError: The pages do not hold together; list the range again.
          FatalError: A page or role of the tenant is wrong, or a page leads to another host.
          RetryableError: The service cannot answer now.
        """
        listed: set[str] = set()
        for blob in self._pages("subscriptions/content", content_type, time_range, content_blob, deadline_s):
            # The last blob of a page may come again as the first of the next.
            if blob.content_id not in listed:
                listed.add(blob.content_id)
                yield blob

    def list_notifications(self, content_type: str, time_range: TimeRange) -> Iterator[Notification]:
        """Lists the attempts to tell a webhook; to find faults, not content."""
        return self._pages("subscriptions/notifications", content_type, time_range, notification)

    def retrieve(
        self,
        blob: ContentBlob | str,
        on_large: Callable[[], None] | None = None,
        *,
        deadline_s: float | None = None,
    ) -> bytes:
        """Fetches a blob, given itself or its content URI, as the bytes the service stores.

        Args:
          blob: The blob.
          on_large: Called where it proves large, before most of it is read; it may wait.
          deadline_s: Seconds after its first failure at which it is given up; the client's own by default.

        Raises:
          SkippableError: The blob does not exist, has expired or is too large.
          FatalError: The content URI leads to another host or tenant; no token was sent there.
          RetryableError: The service cannot answer now, or the body came short.
        """
        uri = blob if isinstance(blob, str) else blob.content_uri
        url = self._address.blob(uri)
        what = f"fetching blob {urlsplit(url).path.rpartition('/')[2][:100]!r}"
        request = Request(
            "GET",
            url,
            what,
            is_blob=True,
            max_bytes=self._max_blob_bytes,
            on_large=on_large,
            deadline_s=deadline_s,
        )
        return self._calls.send(request, lambda answer: _blob_body(answer, what))

    def content_uri(self, content_id: str) -> str:
        """The address that a blob is fetched at, for one that was listed long ago."""
        return self._address.operation(f"audit/{quote(content_id, safe='$')}")

    def now(self) -> datetime:
        """The time by the service's clock; this machine's until it has answered."""
        return self._calls.now()

    def friendly_names(self, language: str = "en-US") -> dict[str, str]:
        """Names of the DLP sensitive information types by their GUIDs."""
        what = "listing the names of sensitive types"
        url = self._address.operation("resources/dlpSensitiveTypes")
        request = Request("GET", url, what, headers={"Accept-Language": language})
        items = self._calls.send(request, lambda answer: _objects(answer, what))
        return {str(item["id"]): str(item["name"]) for item in items if "id" in item and "name" in item}

    def counts(self) -> Counts:
        """What this client has done so far."""
        return self._calls.counts()

    def close(self) -> None:
        """Closes the pooled connections."""
        self._transport.close()

    def _subscription_request(self, verb: str, content_type: str) -> Request:
        url = self._address.operation(f"subscriptions/{verb}", {"contentType": content_type})
        return Request("POST", url, f"{verb} of the subscription {content_type!r}", content_type)

    def _pages(
        self,
        operation: str,
        content_type: str,
        time_range: TimeRange,
        read_item: Callable[[Mapping[str, object], str, str], _T],
        deadline_s: float | None = None,
    ) -> Iterator[_T]:
        if time_range.start.microsecond or time_range.end.microsecond:
            raise ValueError(f"a listing needs whole seconds, got {time_range.start!r} to {time_range.end!r}")
        start, end = format_wire(time_range.start), format_wire(time_range.end)
        what = f"listing {content_type!r} from {start} to {end}"
        params = {"contentType": content_type, "startTime": start, "endTime": end}
        url = self._address.operation(operation, params)

        def read(answer: Answer) -> tuple[list[_T], str]:
            items = [read_item(item, content_type, what) for item in _objects(answer, what)]
            return items, answer.headers.get("NextPageUri", "").strip()

        marks: set[str] = set()
        while len(marks) < _MAX_PAGES:
            marks.add(_page_mark(url))
            items, next_uri = self._calls.send(Request("GET", url, what, content_type, deadline_s=deadline_s), read)
            yield from items
            if not next_uri:
                return
            url = self._address.next_page(next_uri, operation, params)
            if _page_mark(url) in marks:
                # An end here would hide the pages behind it.
                raise ListingChangedError(
                    f"{what} failed: page {len(marks)} leads back to a page before; list it again"
                )
        raise ListingChangedError(f"{what} failed: it has more than {_MAX_PAGES} pages; list a shorter range")


def first_content_note() -> str:
    """Tells in one sentence how long a new subscription stays silent."""
    hours = limits()["first_content_wait"] // 3600
    return (
        f"The first content of a new subscription may take up to {hours} hours to appear; until then lists are empty."
    )


def _objects(answer: Answer, what: str) -> list[Mapping[str, object]]:
    if answer.status != 200:
        raise RetryableError(f"{what} failed: HTTP {answer.status}, expected 200", status=answer.status)
    return objects(answer.body, what)


def _blob_body(answer: Answer, what: str) -> bytes:
    """The body of a blob, if nothing speaks against its being whole; its records are the reader's business."""
    if answer.status != 200:
        why = f"HTTP {answer.status}, expected 200"
    elif is_html(answer.body):
        why = "the answer is markup of some gateway, expected records"
    elif not answer.body.strip():
        why = "the answer is empty, expected records"
    elif not answer.is_whole and not answer.body.rstrip().endswith(b"]"):
        why = "the body came short"
    else:
        return answer.body
    raise RetryableError(f"{what} failed: {why}; try again later", status=answer.status)


def _page_mark(url: str) -> str:
    """What tells one page of a listing from another; the first page has none."""
    query = parse_qsl(urlsplit(url).query)
    return next((value for name, value in query if name.lower() == "nextpage"), "")
