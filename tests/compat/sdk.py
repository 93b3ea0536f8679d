"""The unmodified avisdk, and a controller that opens and closes its sessions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.api_served import Controller
from tests.api_world import PASSWORD

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from avi.sdk.avi_api import (
        APIError,
        ApiResponse,
        ApiSession,
        AviMultipartUploadError,
        AviServerError,
        ObjectNotFound,
    )

__all__ = [
    "ITS_OWN_WARNINGS",
    "APIError",
    "ApiResponse",
    "ApiSession",
    "AviMultipartUploadError",
    "AviServerError",
    "ObjectNotFound",
    "SdkController",
    "made",
]

ITS_OWN_WARNINGS = [
    # It warns about verify=False, and uses datetime.utcnow.
    pytest.mark.filterwarnings("ignore:[\\s\\S]*Strong Recommendation:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
]


class SdkController(Controller):
    """Opens SDK sessions, and closes them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._sessions: list[Any] = []

    def __exit__(self, *error: object) -> None:
        for session in self._sessions:
            session.close()
        ApiSession.clear_cached_sessions()
        super().__exit__(*error)

    def session(self, **more: Any) -> Any:
        ApiSession.clear_cached_sessions()
        return self.another(**more)

    def another(self, **more: Any) -> Any:
        """A session beside those there are."""
        session = ApiSession(**self.login(**more))
        self._sessions.append(session)
        return session

    def login(self, **more: Any) -> dict[str, Any]:
        """What a session is opened with."""
        given = {"controller_ip": "127.0.0.1", "port": self.port, "username": "admin", "password": PASSWORD}
        return {**given, **more}


def made(api: Any, type: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    reply = api.post(type, data=body, **more)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found
