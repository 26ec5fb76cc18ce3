"""The REST API as bytes on its socket: status codes, headers, problem documents, limits, streams."""

from __future__ import annotations

import getpass
import json
import socket
from typing import Any

import pytest

from tests.support.kit import command_job, train_job
from tests.support.rest import Served
from trimtab.client import Response, Transport
from trimtab.wire import encode

JOB_DOCUMENT = {
    "kind": "train",
    "name": "lm",
    "model": {"family": "decoder", "layers": 2, "hidden_size": 64, "heads": 4, "feed_forward_size": 128, "vocab_size": 256},
    "data": {"kind": "stdlib"},
    "workload": {"steps": 10, "sequence_length": 16, "global_batch": 8},
}


def call(server: Served, method: str, path: str, body: object = None, **headers: str) -> Response:
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Transport(f"unix:{server.path}").request(method, path, body=data, headers=named)


def problem(response: Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.body)
    assert body["status"] == response.status
    assert body["type"] == f"urn:trimtab:problem:{body['code']}"
    assert body["request_id"].startswith("req_")
    assert isinstance(body, dict)
    return body


def test_submit_answers_201_with_location_and_the_peers_name(server: Served) -> None:
    response = call(server, "POST", "/v1/jobs", {"spec": encode(command_job())})
    body = json.loads(response.body)
    assert response.status == 201
    assert response.headers["location"] == f"/v1/jobs/{body['id']}"
    assert body["submitted_by"] == getpass.getuser()


def test_the_same_idempotency_key_gives_the_same_job_and_409_for_another(server: Served) -> None:
    first = call(server, "POST", "/v1/jobs", {"spec": encode(command_job())}, Idempotency_Key="k")
    again = call(server, "POST", "/v1/jobs", {"spec": encode(command_job())}, Idempotency_Key="k")
    other = call(server, "POST", "/v1/jobs", {"spec": encode(command_job("other"))}, Idempotency_Key="k")
    assert json.loads(first.body)["id"] == json.loads(again.body)["id"]
    assert problem(other)["code"] == "conflict"
    assert other.status == 409


def test_a_job_document_is_read_with_pointers_to_what_is_wrong(server: Served) -> None:
    good = call(server, "POST", "/v1/plans", {"job": JOB_DOCUMENT})
    assert good.status == 201
    assert good.headers["location"] == f"/v1/plans/{json.loads(good.body)['id']}"
    bad = {**JOB_DOCUMENT, "workload": {"step": 10, "sequence_length": 16, "global_batch": 0}}
    body = problem(call(server, "POST", "/v1/plans", {"job": bad}))
    found = {entry["pointer"]: entry for entry in body["errors"]}
    assert body["status"] == 422
    assert found["/workload/step"]["nearest"] == "'steps'"
    assert "/workload/global_batch" in found


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"spec": encode(command_job()), "job": JOB_DOCUMENT}, ""),
        ({"spec": {"name": "x"}}, "/spec/kind"),
        ({"spec": encode(command_job()), "surprise": 1}, "/surprise"),
        ({"job": JOB_DOCUMENT, "base_dir": "relative"}, "/base_dir"),
        ([1, 2], ""),
    ],
)
def test_a_wrong_body_is_422_and_points_at_the_field(server: Served, body: object, pointer: str) -> None:
    found = problem(call(server, "POST", "/v1/jobs", body))
    assert found["status"] == 422
    assert found["code"] == "spec-invalid"
    assert pointer in [entry["pointer"] for entry in found["errors"]]


def test_text_that_is_no_json_is_422(server: Served) -> None:
    response = Transport(f"unix:{server.path}").request("POST", "/v1/jobs", body=b"{nope")
    assert problem(response)["status"] == 422


def test_unknown_things_are_404_and_wrong_methods_405(server: Served) -> None:
    assert problem(call(server, "GET", "/v1/jobs/job_nothing"))["code"] == "not-found"
    assert problem(call(server, "GET", "/v1/plans/plan_nothing"))["code"] == "not-found"
    assert problem(call(server, "GET", "/v2/jobs"))["detail"] == "no such address: /v2/jobs"
    wrong = call(server, "DELETE", "/v1/jobs")
    assert problem(wrong)["code"] == "method-not-allowed"
    assert "GET" in wrong.headers["allow"]


def test_a_name_near_another_is_suggested(server: Served) -> None:
    server.client.submit(command_job("llama-sft"))
    assert "did you mean llama-sft" in problem(call(server, "GET", "/v1/jobs/lama-sft"))["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(server: Served, chunked: bool) -> None:
    size = (1 << 20) + 1
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(server.path))
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with connection, connection.makefile("rb") as answer:
        if chunked:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            connection.sendall(f"{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n")
        else:
            connection.sendall(head + f"Content-Length: {size}\r\n\r\n".encode())
        status, _, rest = answer.read().partition(b"\r\n")
    assert b" 413 " in status
    assert b'"too-large"' in rest


def test_jobs_come_in_pages_and_by_state(server: Served) -> None:
    ids = [str(server.client.submit(command_job(f"job-{n}")).id) for n in range(5)]
    first = json.loads(call(server, "GET", "/v1/jobs?limit=2").body)
    second = json.loads(call(server, "GET", f"/v1/jobs?limit=2&page_token={first['next_page_token']}").body)
    last = json.loads(call(server, "GET", f"/v1/jobs?limit=2&page_token={second['next_page_token']}").body)
    seen = [item["id"] for page in (first, second, last) for item in page["items"]]
    assert seen == sorted(ids, reverse=True)
    assert last["next_page_token"] is None
    server.client.cancel(ids[0])
    cancelled = json.loads(call(server, "GET", "/v1/jobs?state=CANCELLED").body)["items"]
    assert [item["id"] for item in cancelled] == [ids[0]]
    assert problem(call(server, "GET", "/v1/jobs?state=LOST"))["status"] == 422


def test_wishes_are_202_and_a_late_one_is_409(server: Served) -> None:
    job = str(server.client.submit(command_job()).id)
    assert call(server, "POST", f"/v1/jobs/{job}/suspend", {}).status == 202
    assert call(server, "POST", f"/v1/jobs/{job}/resume", {}).status == 202
    assert call(server, "POST", f"/v1/jobs/{job}/cancel", {}).status == 202
    assert call(server, "POST", f"/v1/jobs/{job}/cancel", {}).status == 202
    assert call(server, "POST", f"/v1/jobs/{job}/resume", {}).status == 409


def test_an_infeasible_plan_tells_its_reasons(server: Served) -> None:
    body = problem(call(server, "POST", "/v1/plans", {"spec": encode(train_job(devices=99))}))
    assert body["code"] == "infeasible"
    assert "99 devices" in body["detail"]


def test_logs_come_from_an_offset_with_where_to_go_on(server: Served) -> None:
    job = str(server.client.submit(command_job()).id)
    queued = call(server, "GET", f"/v1/jobs/{job}/logs")
    assert (queued.status, queued.body, queued.headers["trimtab-complete"]) == (200, b"", "false")
    server.rig.run(4.0)
    attempt = server.client.job(job).attempts[0].ref
    server.rig.logs.data[attempt, 0] = b"one\ntwo\n"
    response = call(server, "GET", f"/v1/jobs/{job}/logs?offset=4")
    assert response.body == b"two\n"
    assert response.headers["trimtab-next-offset"] == "8"
    assert problem(call(server, "GET", f"/v1/jobs/{job}/logs?attempt=7"))["status"] == 404
    assert problem(call(server, "GET", f"/v1/jobs/{job}/logs?offset=-1"))["status"] == 422


def test_a_followed_log_streams_to_the_end_of_the_attempt(server: Served) -> None:
    job = str(server.client.submit(command_job()).id)
    server.rig.run(4.0)
    attempt = server.client.job(job).attempts[0].ref
    server.rig.logs.data[attempt, 0] = b"all of it\n"
    server.rig.run(60.0)
    assert server.client.job(job).state == "SUCCEEDED"
    assert call(server, "GET", f"/v1/jobs/{job}/logs?follow=true").body == b"all of it\n"


def test_events_stream_with_ids_and_go_on_behind_the_last(server: Served) -> None:
    server.client.submit(command_job("a"))
    server.client.submit(command_job("b"))
    lines = Transport(f"unix:{server.path}").stream(
        "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "1"}, timeout_s=10
    )
    wanted = [line for line in (next(lines) for _ in range(5)) if line.startswith(b"id:")]
    assert wanted == [b"id: 2"]
    lines.close()
    wrong = call(server, "GET", "/v1/events", Accept="text/event-stream", Last_Event_ID="soon")
    assert problem(wrong)["status"] == 422


def test_probe_report_must_be_one_and_match_its_address(server: Served) -> None:
    assert problem(call(server, "PUT", "/v1/probes/abc", {"fingerprint": "abc"}))["status"] == 422
    assert json.loads(call(server, "GET", "/v1/probes").body) == {"items": []}


def test_the_process_says_how_it_is(server: Served) -> None:
    assert call(server, "GET", "/healthz").body == b"ok\n"
    assert call(server, "GET", "/readyz").status == 200
    assert call(server, "GET", "/metrics").body == b"trimtab_x 1\n"
    assert json.loads(call(server, "GET", "/v1/status").body)["store"] == ""
    assert json.loads(call(server, "GET", "/v1/inventory").body)["pools"][0]["id"] == "pool-a"
    assert json.loads(call(server, "GET", "/openapi.json").body)["openapi"].startswith("3.1")


def test_an_attempt_that_is_none_cannot_be_vouched_for(server: Served) -> None:
    assert problem(call(server, "POST", "/v1/attempts/what/vouch-dead", {}))["status"] == 422
    assert problem(call(server, "POST", "/v1/attempts/job_x.u0.a1/vouch-dead", {}))["status"] == 404


def test_a_bug_is_500_with_a_request_id_and_no_inside(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bytes:
        raise RuntimeError("the secret inside")

    server.context.metrics = broken
    body = problem(call(server, "GET", "/metrics"))
    assert body["code"] == "internal"
    assert "secret" not in json.dumps(body)
    assert any(body["request_id"] in record.getMessage() for record in caplog.records)
