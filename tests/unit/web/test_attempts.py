"""A flood from one address is slowed down, forgotten after a while, and never remembered beyond a bound."""

from __future__ import annotations

from agent.web.attempts import Attempts, Bucket


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_rate() -> None:
    clock = Clock()
    bucket = Bucket(3, 2, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_one_address_does_not_slow_another() -> None:
    attempts = Attempts(burst=2, rate=1, clock=Clock())
    assert [bool(attempts.take("a")) for _ in range(3)] == [False, False, True]
    assert not attempts.take("b")


def test_memory_is_bounded_and_the_quietest_is_forgotten() -> None:
    attempts = Attempts(burst=1, rate=1, addresses=10, clock=Clock())
    for number in range(10_000):
        attempts.take("busy")
        attempts.take(f"address {number}")
    assert len(attempts) == 10
    assert attempts.take("busy") and attempts.take("address 9999")
    assert not attempts.take("address 0")
