"""The graph, in batch and in streaming, on every runner."""

from collections.abc import Iterable

import apache_beam as beam

from transforms.elements import ContentUnit, Feed, Follow, UnitOutcome
from transforms.follow_content import FollowContent
from transforms.land_content import LandContent
from transforms.list_content import ListContent


def land_feeds(p: beam.Pipeline, feeds: Iterable[Feed]) -> beam.PCollection[UnitOutcome]:
    """Lands what the feeds have and the lake does not."""
    return _land(p | "Feeds" >> beam.Create(list(feeds), reshuffle=False) | "List content" >> ListContent())


def follow_feeds(p: beam.Pipeline, feeds: Iterable[Follow], *, is_open: bool) -> beam.PCollection[UnitOutcome]:
    """Lands what appears in the feeds; one poll of it where not `is_open`."""
    polls = FollowContent(is_open=is_open)
    return _land(p | "Feeds" >> beam.Create(list(feeds), reshuffle=False) | "Follow content" >> polls)


def _land(units: beam.PCollection[ContentUnit]) -> beam.PCollection[UnitOutcome]:
    outcomes: beam.PCollection[UnitOutcome] = (
        units | "Redistribute" >> beam.Reshuffle() | "Land content" >> LandContent()
    )
    return outcomes
