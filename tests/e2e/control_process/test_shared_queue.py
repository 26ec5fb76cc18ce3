"""Several people's jobs in one queue on a machine with eight devices: real user ids, the kernel's word on who calls."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Shell, shell
from trimtab.client import Client
from trimtab.errors import AuthenticationError, TrimtabError
from trimtab.job import JobState
from trimtab.jobspec import CommandSpec, DeviceRequest, JobKind, JobSpec

GROUP, ANN, BOB, EVE = 61000, 61001, 61002, 61003
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to call as several users"),
]


def as_user(uid: int, groups: list[int], call: Callable[[], object]) -> object:
    """What ``call`` returns (or the name of its error) in a process of that user."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        answer: object = None
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            answer = call()
        except (TrimtabError, OSError) as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(theirs, json.dumps(answer).encode())
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return json.loads(data)


def sleeper(name: str, num_devices: int, seconds: float) -> JobSpec:
    argv = (sys.executable, "-c", f"import time; time.sleep({seconds})")
    return JobSpec(
        name=name,
        kind=JobKind.COMMAND,
        command=CommandSpec(argv=argv, working_dir="/"),
        devices=DeviceRequest(min_devices=num_devices, max_devices=num_devices),
    )


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Shell, Path]]:
    """A control process of eight devices whose second socket is open to the group."""
    with shell() as own:
        folder = own.cwd / "lab"
        folder.mkdir()
        own.cwd.chmod(0o711)
        monkeypatch.setenv("TRIMTAB_SHARED_SOCKET", str(folder / "s"))
        monkeypatch.setenv("TRIMTAB_SHARED_GROUP", str(GROUP))
        own.num_cpu_devices = 8
        assert own("server", "start").returncode == 0
        yield own, folder / "s"


def state_of(own: Shell, job: str) -> JobState:
    return own.client.job(job).state


def wait_for(own: Shell, job: str, *states: JobState) -> JobState:
    end_s = time.monotonic() + PATIENCE_S
    while (state := state_of(own, job)) not in states:
        assert time.monotonic() < end_s, own.client.explain(job)
        time.sleep(0.1)
    return state


def test_three_people_share_eight_devices(lab: tuple[Shell, Path]) -> None:
    own, path = lab

    def submit(name: str, num_devices: int, seconds: float) -> Callable[[], object]:
        return lambda: str(Client(f"unix:{path}").submit(sleeper(name, num_devices, seconds), idempotency_key=None).id)

    def cancel(job: str) -> Callable[[], object]:
        return lambda: str(Client(f"unix:{path}").cancel(job).state)

    large = str(as_user(ANN, [GROUP], submit("large", 6, 300)))
    wait_for(own, large, JobState.RUNNING)
    waiting = str(as_user(BOB, [GROUP], submit("waiting", 4, 300)))
    small = str(as_user(BOB, [GROUP], submit("small", 2, 300)))
    wait_for(own, small, JobState.RUNNING)
    assert state_of(own, waiting) is JobState.QUEUED, "six and two of eight devices are taken"
    assert [own.client.job(job).submitted_by for job in (large, waiting)] == [f"uid-{ANN}", f"uid-{BOB}"]

    refused = str(as_user(BOB, [GROUP], cancel(large)))
    assert refused.startswith(AuthenticationError.__name__)
    assert f"uid-{ANN} submitted it" in refused
    assert str(as_user(EVE, [EVE], submit("stranger", 1, 1))).startswith("UnavailableError"), "the kernel lets nobody else in"
    assert state_of(own, large) is JobState.RUNNING

    as_user(ANN, [GROUP], cancel(large))
    wait_for(own, waiting, JobState.RUNNING)
    assert wait_for(own, large, JobState.CANCELLED)
    assert own("cancel", waiting, small).returncode == 0, "the owner may end everybody's jobs"


def test_a_member_uses_the_commands_and_owns_no_server(lab: tuple[Shell, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = lab
    with monkeypatch.context() as patch, shell() as member:
        patch.setenv("TRIMTAB_SERVER", f"unix:{path}")
        patch.delenv("TRIMTAB_SHARED_SOCKET")
        patch.delenv("TRIMTAB_SHARED_GROUP")
        assert member("list").returncode == 0
        assert f"unix:{path}" in member("server", "status").stdout
        refused = member("server", "stop")
        assert refused.returncode == 1
        assert "only its owner does this" in refused.stderr
        assert not member.home.socket.exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TRIMTAB_SHARED_SOCKET": "/tmp/x.sock"}, "TRIMTAB_SHARED_GROUP: missing"),
        ({"TRIMTAB_SHARED_SOCKET": "/tmp/x.sock", "TRIMTAB_SHARED_GROUP": "daemom"}, "did you mean daemon?"),
        ({"TRIMTAB_SHARED_SOCKET": "x.sock", "TRIMTAB_SHARED_GROUP": "daemon"}, "the absolute path of a unix socket"),
        ({"TRIMTAB_SHARED_SOCKET": "/no/such/x.sock", "TRIMTAB_SHARED_GROUP": "daemon"}, "cannot be opened to group"),
    ],
)
def test_wrong_settings_are_refused(variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with shell() as own:
        done = own("server", "start")
        assert done.returncode != 0
        assert said in done.stderr
        for name in variables:
            monkeypatch.delenv(name)


def test_what_stands_where_the_socket_should_be_is_left_alone(lab: tuple[Shell, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    own, path = lab
    thesis = own.cwd / "thesis.tex"
    thesis.write_text("years of work")
    for place, said in ((thesis, "there is a file that is no socket"), (path, "another control process serves there")):
        with monkeypatch.context() as patch, shell() as other:
            patch.setenv("TRIMTAB_SHARED_SOCKET", str(place))
            done = other("server", "start")
            assert done.returncode != 0
            assert said in done.stderr
    assert thesis.read_text() == "years of work"
    assert Client(f"unix:{path}").status().pid == own.client.status().pid
