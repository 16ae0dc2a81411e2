"""A plain HTTP visitor of the emulator: says exactly what a test wants said, and hands back the answer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.server import Emulator, running
from emulator.tenant import Tenant

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SCOPE = "https://manage.office.com/.default"


class Visitor:
    """Speaks to one tenant of a running emulator."""

    def __init__(self, emu: Emulator, tenant: Tenant | None = None):
        self.emu = emu
        self.tenant = tenant or emu.tenants[0]
        self.feed = f"{emu.api_root}/api/v1.0/{self.tenant.tenant_id}/activity/feed"
        self._bearer: str | None = None

    def send(self, method: str, url: str, **options: Any) -> requests.Response:
        address = url if url.startswith("https://") else self.emu.api_root + url
        return requests.request(method, address, verify=str(self.emu.ca_file), timeout=20, **options)

    def token(self, path: str = "oauth2/v2.0/token", **form: Any) -> requests.Response:
        usual = {
            "grant_type": "client_credentials",
            "client_id": self.tenant.client_id,
            "client_secret": self.tenant.client_secret,
            "scope": SCOPE,
        }
        return self.send("POST", f"/{self.tenant.tenant_id}/{path}", data=usual | form)

    def bearer(self) -> str:
        if self._bearer is None:
            self._bearer = self.token().json()["access_token"]
        return self._bearer

    def renew(self) -> None:
        self._bearer = None

    def ask(self, path: str, method: str = "GET", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.bearer()}"} | options.pop("headers", {})
        url = path if path.startswith("https://") else self.feed + path
        return self.send(method, url, headers=headers, **options)

    def start(self, content_type: str = "Audit.General", **options: Any) -> requests.Response:
        return self.ask("/subscriptions/start", "POST", params={"contentType": content_type}, **options)

    def stop(self, content_type: str = "Audit.General") -> requests.Response:
        return self.ask("/subscriptions/stop", "POST", params={"contentType": content_type})

    def content(self, content_type: str = "Audit.General", **params: str) -> requests.Response:
        return self.ask("/subscriptions/content", params={"contentType": content_type} | params)

    def pages(self, content_type: str, start: str, end: str) -> Iterator[requests.Response]:
        answer = self.content(content_type, startTime=start, endTime=end)
        yield answer
        while answer.headers.get("NextPageUri"):
            answer = self.ask(answer.headers["NextPageUri"])
            yield answer


@contextmanager
def visiting(lines: list[str] | None = None, folder: Path | None = None, **options: Any) -> Iterator[Visitor]:
    """Runs an emulator at `NOW` with these lines as records, or none, and yields a visitor of its tenant."""
    files = []
    if lines is not None and folder is not None:
        files = [folder / "records.ndjson"]
        files[0].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    usual: dict[str, Any] = {"anchor": NOW, "count": 0, "records": files}
    with running(**usual | options) as emu:
        yield Visitor(emu)


def code_of(answer: requests.Response) -> tuple[int, str]:
    """Returns status and error code."""
    return answer.status_code, answer.json()["error"]["code"]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server has logged as a mistake of its own."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
