from __future__ import annotations

import socket
import threading
import time

import pytest

from paddle_tk.errors import LostProcess
from paddle_tk.training import presence
from paddle_tk.training.presence import Hub, Presence, reach


def _never(error: LostProcess) -> None:
    raise AssertionError(f"ended: {error}")


def _job(others: int, end: object = _never) -> list[Presence]:
    """Returns the presences of the first process and the others, over real connections."""
    hub = Hub("127.0.0.1")
    reached = [reach(hub.address) for _ in range(others)]
    first = Presence(hub.accept(others), first=True, end=end)  # type: ignore[arg-type]
    return [first, *(Presence([one], first=False, end=end) for one in reached)]  # type: ignore[arg-type]


def test_meet_returns_when_all_have_come() -> None:
    job, order = _job(2), []

    def late(number: int) -> None:
        time.sleep(0.05 * number)
        order.append("comes")
        job[number].meet()
        order.append("goes")

    threads = [threading.Thread(target=late, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in job:
        one.close()
    assert order == ["comes"] * 3 + ["goes"] * 3


@pytest.mark.parametrize("gone", [0, 1])
def test_meet_raises_when_a_process_is_gone(gone: int) -> None:
    job = _job(1, end=lambda error: None)
    job[gone].close()
    with pytest.raises(LostProcess, match="another process of the job is gone") as caught:
        job[1 - gone].meet()
    job[1 - gone].close()
    assert caught.value.exit_code == 70
    assert "--resume" in caught.value.fix


def test_process_is_ended_when_another_is_gone_and_it_does_not_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_SECONDS", 0.05)
    ended: list[LostProcess] = []
    told = threading.Event()

    def end(error: LostProcess) -> None:
        ended.append(error)
        told.set()

    first, other = _job(1, end)
    other.close()
    assert told.wait(10)
    first.close()
    assert ended[0].exit_code == 70


def test_nothing_is_ended_when_the_processes_part_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_SECONDS", 0.2)
    ended: list[LostProcess] = []
    first, other = _job(1, ended.append)
    other.close()
    first.close()
    time.sleep(0.5)
    assert ended == []


def test_hub_ignores_a_stranger_when_it_waits_for_the_others() -> None:
    hub = Hub("127.0.0.1")
    stranger = socket.create_connection(hub.address[:2])
    stranger.sendall(b"x" * len(hub.address[2]))
    other = reach(hub.address)
    found = hub.accept(1)
    other.sendall(b"!")
    assert found[0].recv(1) == b"!"
    for connection in (stranger, other, *found):
        connection.close()


def test_reach_raises_when_nobody_is_there(busy_port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(LostProcess, match=f"127.0.0.1:{port}"):
        reach(("127.0.0.1", port, "word"))
