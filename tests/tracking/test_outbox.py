"""The mailbox to a server that may be slow, away or broken."""

import logging
import threading

import pytest

from vmil.tracking.outbox import Outbox


def hopeless(error: Exception) -> bool:
    return isinstance(error, ValueError)


def fail(error: Exception) -> None:
    raise error


def test_calls_are_delivered_in_order_by_another_thread() -> None:
    seen: list[tuple[int, bool]] = []
    main = threading.get_ident()
    outbox = Outbox("server", hopeless)
    for number in range(100):
        outbox.post(lambda number=number: seen.append((number, threading.get_ident() != main)))
    assert outbox.drain(timeout=60)
    assert seen == [(number, True) for number in range(100)]
    assert outbox.close(timeout=60) == 0


def test_closing_delivers_what_waits_and_posting_afterwards_is_harmless() -> None:
    gate, seen = threading.Event(), list[str]()
    outbox = Outbox("server", hopeless)
    outbox.post(lambda: (gate.wait(60), seen.append("a")))
    outbox.post(lambda: seen.append("b"))
    gate.set()
    assert outbox.close(timeout=60) == 0
    outbox.post(lambda: seen.append("c"))
    assert seen == ["a", "b"]


def test_a_hopeless_call_is_dropped_with_one_warning_and_the_rest_arrives(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    outbox = Outbox("server", hopeless)
    with caplog.at_level(logging.WARNING):
        outbox.post(lambda: fail(ValueError("bad name\nand a long trace")))
        outbox.post(lambda: fail(ValueError("bad again")))
        outbox.post(lambda: seen.append(1))
        assert outbox.close(timeout=60) == 0
    assert seen == [1]
    assert [record.message for record in caplog.records] == [
        "server: ValueError: bad name; the run goes on, metrics.csv keeps everything"
    ]


def test_what_may_yet_succeed_is_tried_again_and_keeps_its_place() -> None:
    seen: list[str] = []
    recovered = threading.Event()
    left = [OSError("away")] * 3

    def flaky() -> None:
        if left:
            raise left.pop()
        seen.append("first")

    def second() -> None:
        seen.append("second")
        recovered.set()

    outbox = Outbox("server", hopeless, pause=0.001)
    outbox.post(flaky)
    outbox.post(second)
    assert recovered.wait(60)
    assert seen == ["first", "second"]
    outbox.close(timeout=60)


def test_the_call_that_all_others_need_never_goes() -> None:
    seen: list[int] = []
    back, tried, arrived = threading.Event(), threading.Event(), threading.Event()

    def opening() -> None:
        tried.set()
        if not back.is_set():
            raise OSError("connection refused")
        seen.append(-1)

    def reading(number: int) -> None:
        seen.append(number)
        if number == 19:
            arrived.set()

    outbox = Outbox("server", hopeless, capacity=5, pause=0.01)
    outbox.post(opening, keep=True)
    assert tried.wait(60)
    for number in range(20):
        outbox.post(lambda number=number: reading(number))  # type: ignore[misc]
    back.set()
    assert arrived.wait(60)
    assert seen[0] == -1
    assert seen[-2:] == [18, 19]
    outbox.close(timeout=60)


def test_while_the_server_is_away_nobody_waits_and_the_oldest_go(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def away() -> None:
        tried.set()
        raise OSError("connection refused")

    outbox = Outbox("server", hopeless, capacity=5)
    with caplog.at_level(logging.WARNING):
        outbox.post(away)
        assert tried.wait(60)
        assert not outbox.drain(timeout=3600)
        for _ in range(20):
            outbox.post(away)
        assert outbox.close(timeout=60) == 21
    assert "21 messages were not delivered" in caplog.records[-1].message
