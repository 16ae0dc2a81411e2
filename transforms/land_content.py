"""Lands units: fetch, decode, stage, commit, publish; the commit of each unit stands on its own.

ContentUnit ── fetch ahead, in threads ── one blob at a time to its rows ── one ledger entry ── UnitOutcome
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import islice
from threading import Semaphore

import apache_beam as beam
from apache_beam.metrics import Metrics

from lake.entries import EXPIRED, FAILED, LANDED, REJECTED, Landing
from lake.landing import Unit
from lake.tenant import TenantLake, open_tenant
from o365.activity import ActivityClient
from o365.clients import client_for
from o365.errors import ActivityError, SkippableError
from schemas.decode import RawRecord, whole_records
from schemas.feed import ContentBlob
from transforms.backlog import Lags, namespace_of
from transforms.elements import ContentUnit, Feed, UnitOutcome
from transforms.tally import count

FETCH_THREADS = 16
FETCH_TRIES = 3
Retrieve = Callable[..., bytes]


class LandContent(beam.PTransform[beam.PCollection[ContentUnit], beam.PCollection[UnitOutcome]]):
    """Lands units of content blobs in the lake.

    Input: PCollection[ContentUnit], bounded or not. Output: PCollection[UnitOutcome]. Delivery: effectively once; the
    ledger entry is the commit. Timestamps: kept. Memory: FETCH_THREADS blobs and the rows of one unit. A blob that
    cannot be had is recorded with its error and does not stop the others.
    """

    def expand(self, units: beam.PCollection[ContentUnit]) -> beam.PCollection[UnitOutcome]:
        """Wires the stage."""
        outcomes: beam.PCollection[UnitOutcome] = units | "Land units" >> beam.ParDo(_LandContentFn())
        return outcomes


class _LandContentFn(beam.DoFn):
    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        names = {
            "landed": "blobs_landed",
            "expired": "blobs_expired",
            "failed": "blobs_failed",
            "rejected": "blobs_rejected",
            "records": "records_decoded",
            "rows": "rows_landed",
            "duplicates": "records_repeated",
            "rejects": "records_rejected",
            "conflicts": "records_conflicting",
        }
        self._counters = {field: Metrics.counter("auditlake", name) for field, name in names.items()}
        self._lag = Metrics.distribution("auditlake", "lag_seconds")
        self._lags: defaultdict[str, Lags] = defaultdict(Lags)

    def setup(self) -> None:
        """Starts the threads that fetch."""
        self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")

    def teardown(self) -> None:
        """Ends them."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def process(self, unit: ContentUnit) -> Iterator[UnitOutcome]:
        """Lands a unit."""
        assert self._pool is not None, "setup runs first"  # noqa: S101
        lake = open_tenant(unit.feed.lake, unit.feed.connection.tenant_id)
        client = client_for(unit.feed.connection)
        entry = land_unit(unit, client, lake, self._pool)
        outcome = _outcome(unit, entry)
        for field, counter in self._counters.items():
            counter.inc(getattr(outcome, field))
        used = Metrics.gauge(f"auditlake.{unit.feed.connection.tenant_id}", "quota_used_percent")
        used.set(100 * client.governor.used() // max(client.governor.quota, 1))
        if entry is not None:
            self._note_lags(unit.feed, entry)
        yield outcome

    def _note_lags(self, feed: Feed, entry: Landing) -> None:
        created = [b.created for b in entry.blobs if b.status == LANDED]
        for one in created:
            self._lag.update(max(0, round((entry.at - one).total_seconds())))
        namespace = namespace_of(feed)
        lags = self._lags[namespace]
        lags.add(entry.at, created)
        if quantiles := lags.quantiles(entry.at):
            for name, lag in zip(("lag_p50_seconds", "lag_p95_seconds"), quantiles, strict=True):
                Metrics.gauge(namespace, name).set(max(0, round(lag)))


def land_unit(unit: ContentUnit, client: ActivityClient, lake: TenantLake, pool: ThreadPoolExecutor) -> Landing | None:
    """Lands the blobs of a unit that the ledger does not have yet; gives the entry, None where it has all of them.

    Raises:
      LakeError: The lake cannot be written; nothing of the unit is committed.
    """
    lake.ledger.refresh()
    feed = unit.feed
    wanted = [b for b in unit.blobs if not lake.ledger.state.is_settled(b.content_id)]
    landing = Unit(lake, feed.run, feed.content_type, client.now)
    retrieve = partial(client.retrieve, deadline_s=feed.deadline_s)
    with closing(_Fetches(pool, retrieve, lake.large).ahead(wanted)) as fetches:
        for blob, fetched in fetches:
            count(feed.run, settled=1, **_add(landing, retrieve, blob, fetched, client.now))
    count(feed.run, settled=len(unit.blobs) - len(wanted))
    return landing.commit()


class _Fetches:
    """Fetches blobs ahead in threads: many small ones at a time, but large ones one by one, each until it is landed.

    `gate` is the tenant's, whose other units may be fetched at the same time.
    """

    def __init__(self, pool: ThreadPoolExecutor, retrieve: Retrieve, gate: Semaphore) -> None:
        self._pool = pool
        self._retrieve = retrieve
        self._gate = gate
        self._large: set[str] = set()

    def ahead(self, blobs: Iterable[ContentBlob]) -> Generator[tuple[ContentBlob, "Future[bytes]"]]:
        """Yields the blobs in order, each with its fetch, keeping at most FETCH_THREADS of them under way.

        Only a large one is handed out as soon as it is there: others may wait for it.
        """
        waiting = iter(blobs)
        under_way = [(b, self._pool.submit(self._fetch, b)) for b in islice(waiting, FETCH_THREADS)]
        try:
            while under_way:
                coming = [f for _, f in under_way if not f.done()]
                ready = [
                    n for n, (b, f) in enumerate(under_way) if f.done() and (n == 0 or b.content_id in self._large)
                ]
                if not ready:
                    wait(coming, return_when=FIRST_COMPLETED)
                    continue
                blob, fetched = under_way[ready[-1]]
                yield blob, fetched
                self._let_go(blob)
                del under_way[ready[-1]]
                under_way += [(b, self._pool.submit(self._fetch, b)) for b in islice(waiting, 1)]
        finally:
            # Where landing has failed, nobody must be left waiting at the gate, here or in another unit.
            for blob, fetched in under_way:
                if not fetched.cancel():
                    fetched.add_done_callback(partial(self._let_go, blob))

    def _fetch(self, blob: ContentBlob) -> bytes:
        def on_large() -> None:
            if blob.content_id not in self._large:
                self._gate.acquire()
                self._large.add(blob.content_id)

        try:
            try:
                return self._retrieve(blob, on_large)
            except SkippableError as error:
                if error.expired:
                    raise
                return self._retrieve(blob, on_large)  # gateways say for moments that there is nothing
        except ActivityError:
            self._let_go(blob)
            raise

    def _let_go(self, blob: ContentBlob, _: object = None) -> None:
        if blob.content_id in self._large:
            self._large.discard(blob.content_id)
            self._gate.release()


def _add(
    landing: Unit,
    retrieve: Retrieve,
    blob: ContentBlob,
    fetched: "Future[bytes]",
    now: Callable[[], datetime],
) -> dict[str, int]:
    """Takes a blob into a unit as far as it could be had; gives counts of that."""
    try:
        body, raws = _read_again(retrieve, blob, fetched.result())
    except ActivityError as error:
        # Before its time a blob that is said to have expired is asked for again by the next run, as any failed one.
        is_due = now() >= blob.content_expiration
        landing.add_failed(blob, error.message, expired=isinstance(error, SkippableError) and error.expired and is_due)
        return {"failed": 1}
    if raws is None:
        landing.add_unreadable(blob, body, f"the body of blob {blob.content_id!r} is no whole array of records")
        return {"failed": 1}
    return {"records": landing.add(blob, body, raws), "bytes": len(body)}


def _read_again(retrieve: Retrieve, blob: ContentBlob, body: bytes) -> tuple[bytes, Sequence[RawRecord] | None]:
    """Splits a body, and fetches a damaged or empty one again until it is whole or comes the same twice.

    Gives the body and its records, None where it is no whole array.
    """
    for _ in range(FETCH_TRIES):
        raws = whole_records(body)
        if raws and not any(isinstance(raw, bytes) for raw in raws):
            return body, raws
        again = retrieve(blob)
        if again == body:
            break
        body = again
    return body, whole_records(body)


def _outcome(unit: ContentUnit, entry: Landing | None) -> UnitOutcome:
    blobs = entry.blobs if entry else []
    return UnitOutcome(
        tenant_id=unit.feed.connection.tenant_id,
        content_type=unit.feed.content_type,
        landed=sum(b.status == LANDED for b in blobs),
        expired=sum(b.status == EXPIRED for b in blobs),
        failed=sum(b.status == FAILED for b in blobs),
        rejected=sum(b.status == REJECTED for b in blobs),
        records=sum(b.records for b in blobs),
        rows=sum(b.rows for b in blobs),
        duplicates=sum(b.duplicates for b in blobs),
        rejects=sum(b.rejects for b in blobs),
        conflicts=sum(b.conflicts for b in blobs),
    )
