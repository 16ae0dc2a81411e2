"""The graph, in batch and in streaming, on every runner."""

from collections.abc import Iterable

import apache_beam as beam

from transforms.elements import Feed, UnitOutcome
from transforms.land_content import LandContent
from transforms.list_content import ListContent


def land_feeds(p: beam.Pipeline, feeds: Iterable[Feed]) -> beam.PCollection[UnitOutcome]:
    """Lands what the feeds have and the lake does not."""
    outcomes: beam.PCollection[UnitOutcome] = (
        p
        | "Feeds" >> beam.Create(list(feeds), reshuffle=False)
        | "List content" >> ListContent()
        | "Redistribute" >> beam.Reshuffle()
        | "Land content" >> LandContent()
    )
    return outcomes
