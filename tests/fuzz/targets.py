"""What is fuzzed: each target takes bytes, and raises where a law is broken."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz import decoder, lakes, service, settings

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True)
class Target:
    """A law over inputs of one kind; `examples` are made of `inputs` in every test run, and more by hand."""

    check: Callable[[bytes], None]
    inputs: st.SearchStrategy[bytes]
    examples: int


TARGETS = {
    "decoder": Target(decoder.check_decoder, decoder.bodies, 100),
    "listing": Target(service.check_listing, service.listings, 300),
    "refusal": Target(service.check_refusal, service.refusals, 300),
    "address": Target(service.check_address, service.addresses, 400),
    "token": Target(service.check_token, service.tokens, 60),
    "entry": Target(lakes.check_entry, lakes.damaged("entry"), 200),
    "checkpoint": Target(lakes.check_checkpoint, lakes.damaged("checkpoint") | lakes.made_up_checkpoints(), 150),
    "lake_with_entry": Target(lakes.check_lake_with_entry, lakes.damaged("entry"), 4),
    "lake_with_checkpoint": Target(
        lakes.check_lake_with_checkpoint, lakes.damaged("checkpoint") | lakes.made_up_checkpoints(), 4
    ),
    "lake_with_parquet": Target(lakes.check_lake_with_parquet, lakes.damaged("parquet") | lakes.made_up_parquet(), 3),
    "lake_with_avro": Target(lakes.check_lake_with_avro, lakes.damaged("avro") | lakes.made_up_avro(), 3),
    "config": Target(settings.check_config, settings.configs, 200),
    "times": Target(settings.check_times, settings.times, 300),
}


def corpus(name: str) -> list[Path]:
    """The kept inputs of a target: every one that has found a bug, and some that are odd."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())
