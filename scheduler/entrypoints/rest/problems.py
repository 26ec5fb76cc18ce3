"""Every error as application/problem+json (RFC 9457), also those of the framework itself, and a limit for bodies."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from trimtab.client.problems import TYPE_PREFIX, problem_of_error
from trimtab.errors import TrimtabError
from trimtab.wire import WireError

_LOG = logging.getLogger("trimtab.rest")
_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "unsupported-media-type"}

MAX_BODY_BYTES = 1 << 20
MAX_PROBE_BYTES = 16 << 20

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(TrimtabError, _expected)
    app.add_exception_handler(WireError, _wire)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


def problem(status: int, code: str, detail: str, **extra: object) -> Response:
    """A problem answer."""
    body = {
        "type": TYPE_PREFIX + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": _request_id(),
        **extra,
    }
    return _answer(body)


async def _expected(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TrimtabError)
    body = problem_of_error(error, request_id=_request_id())
    if body["status"] >= 500:
        _LOG.error("request %s failed: %s: %s", body["request_id"], type(error).__name__, error)
    return _answer(body)


async def _wire(_request: Request, error: Exception) -> Response:
    return problem(422, "spec-invalid", str(error), errors=[{"pointer": "", "path": "", "detail": str(error)}])


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    entries = []
    for found in error.errors():
        place = [str(part) for part in found["loc"] if part != "body"]
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in place)
        entries.append({"pointer": pointer, "path": ".".join(place), "detail": found["msg"]})
    detail = "; ".join(f"{entry['path']}: {entry['detail']}" if entry["path"] else entry["detail"] for entry in entries)
    return problem(422, "spec-invalid", detail, errors=entries)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, f"http-{error.status_code}")
    detail = (
        f"no such address: {request.url.path}" if error.status_code == 404 and error.detail == "Not Found" else str(error.detail)
    )
    answer = problem(error.status_code, code, detail)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods(request))  # the framework names those of one route alone
    return answer


def _methods(request: Request) -> list[str]:
    """The methods that this address answers to."""
    found: set[str] = set()
    for candidate in request.app.state.api_routes:
        if isinstance(candidate, APIRoute) and candidate.path_regex.match(request.url.path):
            found |= candidate.methods or set()
    return sorted(found)


async def _bug(_request: Request, error: Exception) -> Response:
    answer = problem(500, "internal", "an internal error; the control process's log has it under this request id")
    _LOG.error("request %s: %s", json.loads(bytes(answer.body))["request_id"], error, exc_info=error)
    return answer


class BodyLimit:
    """ASGI middleware: a body larger than the limit of its path is answered with 413, whether announced or streamed."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting ``receive``."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = MAX_PROBE_BYTES if scope["path"].startswith("/v1/probes/") else MAX_BODY_BYTES
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, f"the body is larger than {limit} bytes")
            return message

        await self._app(scope, counted, send)


def _too_large(limit: int) -> Response:
    return problem(413, "too-large", f"the body is larger than {limit} bytes")


def _answer(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status_code=body["status"], media_type="application/problem+json")


def _request_id() -> str:
    return "req_" + secrets.token_hex(8)
