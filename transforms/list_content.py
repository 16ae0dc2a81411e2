"""Lists what the feed has and the lake does not: the custom splittable source.

Feed ── ticks ── claim ── list all their pages, some at a time ── blobs not yet landed ── units of at most UNIT_BLOBS
            │                                                           ├─ every slice listed, and every blob named,
            └─ blobs of them that the ledger knows and the lake lacks ──┘  is in the ledger first
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from lake.entries import LISTED
from transforms.elements import ContentUnit, Feed
from transforms.grid import GridProvider, StartWatermark, tick_range
from transforms.lister import LISTINGS_AT_ONCE, UNIT_BLOBS, Lister
from transforms.unit_coder import register_unit_coder


class ListContent(beam.PTransform[beam.PCollection[Feed], beam.PCollection[ContentUnit]]):
    """Lists the content of feeds and cuts it into units.

    Input: PCollection[Feed]. Output: PCollection[ContentUnit], stamped with available time. Delivery: a blob that the
    ledger calls landed or expired is not emitted again; one that is emitted twice is landed once all the same. A tick
    that cannot be listed is recorded with its cause and does not stop other feeds.

    Source: Management Activity API reference, "List available content".
    """

    def expand(self, feeds: beam.PCollection[Feed]) -> beam.PCollection[ContentUnit]:
        """Wires the stage."""
        register_unit_coder()
        # Inferred, the type would be that of the stamped value.
        listing = beam.ParDo(_ListContentFn()).with_output_types(ContentUnit)
        units: beam.PCollection[ContentUnit] = feeds | "List ticks" >> listing
        return units


class _ListContentFn(beam.DoFn):
    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock  # the service's by default
        self._blobs_listed = Metrics.counter("auditlake", "blobs_listed")
        self._slices_listed = Metrics.counter("auditlake", "slices_listed")
        self._slices_failed = Metrics.counter("auditlake", "slices_failed")

    def process(
        self,
        feed: Feed,
        tracker: Any = beam.DoFn.RestrictionParam(GridProvider()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(StartWatermark()),
    ) -> Iterator[TimestampedValue[ContentUnit]]:
        """Lists ticks as long as they can be claimed."""
        lister = Lister(feed, self._clock)
        tick = tracker.current_restriction().start
        while True:
            claimed: list[int] = []
            while len(claimed) < LISTINGS_AT_ONCE and tracker.try_claim(tick):
                claimed.append(tick)
                tick += 1
            lister.list_ticks(claimed)
            if len(claimed) < LISTINGS_AT_ONCE:
                break
            if len(lister.blobs) >= UNIT_BLOBS:
                yield from self._units(lister, tick - 1)
                self._advance(watermark, tick - 1)
        yield from self._units(lister, tick - 1)
        self._advance(watermark, tick - 1)

    def _units(self, lister: Lister, tick: int) -> Iterator[TimestampedValue[ContentUnit]]:
        self._blobs_listed.inc(len(lister.blobs))
        self._slices_listed.inc(sum(s.outcome == LISTED for s in lister.slices))
        self._slices_failed.inc(sum(s.outcome != LISTED for s in lister.slices))
        stamp = Timestamp.of(tick_range(tick).start.timestamp())
        for unit in lister.hand_on():
            yield TimestampedValue(unit, stamp)

    def _advance(self, watermark: Any, tick: int) -> None:
        """Raises the watermark over what was handed on, and never moves it back."""
        reached = Timestamp.of(tick_range(tick).end.timestamp())
        if reached > watermark.current_watermark():
            watermark.set_watermark(reached)
