"""Bugs to plant in a command, which the harness must find: `CHAOS_MUTATION=name`. For its own tests only."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from lake import landing, stage, storage_local, tenant
from lake.entries import FAILED, BlobState, State
from schemas.feed import ContentBlob
from transforms import list_content

VARIABLE = "CHAOS_MUTATION"


def _is_unlucky(content_id: str) -> bool:
    return crc32(content_id.encode()) % 8 == 0


def _lands_what_others_have_landed() -> None:
    def check_again(self: landing.Unit, state: State) -> None:
        """Drops nothing."""

    landing.Unit._check_again = check_again  # type: ignore[method-assign]


def _drops_blobs_of_others_but_no_rows() -> None:
    check_again = stage.Stage.check_again

    def check_blobs(self: stage.Stage, dropped: Any, counts: Any) -> None:
        self._lake.committed.holds = lambda keys: np.zeros(len(keys), bool)  # type: ignore[method-assign]
        check_again(self, dropped, counts)
        del self._lake.committed.holds

    stage.Stage.check_again = check_blobs  # type: ignore[method-assign]


def _writes_over_entries_of_others() -> None:
    put_if_absent = storage_local.LocalStorage.put_if_absent

    def put_always(self: storage_local.LocalStorage, key: str, data: bytes) -> bool:
        if not put_if_absent(self, key, data):
            self.put(key, data)
        return True

    storage_local.LocalStorage.put_if_absent = put_always  # type: ignore[method-assign]


def _recovers_nothing() -> None:
    def recover(self: tenant.TenantLake) -> None:
        """Leaves everything as it is."""

    tenant.TenantLake.recover = recover  # type: ignore[method-assign]


def _sweeps_what_others_stage() -> None:
    tenant.SWEEP_AGE = timedelta(0)


def _forgets_blobs() -> None:
    take = list_content.Lister._take

    def forget(self: list_content.Lister, blobs: Iterable[ContentBlob]) -> None:
        take(self, [b for b in blobs if not _is_unlucky(b.content_id)])

    list_content.Lister._take = forget  # type: ignore[method-assign]


def _takes_failed_for_settled() -> None:
    is_settled = BlobState.is_settled.fget
    BlobState.is_settled = property(  # type: ignore[method-assign, assignment]
        lambda self: self.status == FAILED or is_settled(self)
    )


def _drops_conflicts() -> None:
    def differing(mine: str, rows: pa.Table, table: str, firsts: pa.Table) -> list[int]:
        return []

    stage.differing = differing  # type: ignore[assignment]


MUTATIONS: dict[str, Callable[[], None]] = {
    m.__name__.lstrip("_"): m
    for m in (
        _lands_what_others_have_landed,
        _drops_blobs_of_others_but_no_rows,
        _writes_over_entries_of_others,
        _recovers_nothing,
        _sweeps_what_others_stage,
        _forgets_blobs,
        _takes_failed_for_settled,
        _drops_conflicts,
    )
}
