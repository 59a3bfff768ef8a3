"""Whether Celery has stopped asking for work: known from what it hears, while a slot is free."""

from worker.slots import Slots


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_is_counted_from_the_last_answer() -> None:
    clock = Clock()
    slots = Slots(2, clock)
    clock.now += 3
    assert slots.silent_s() == 3
    slots.heard()
    clock.now += 1
    assert slots.silent_s() == 1


def test_no_slot_free_is_no_silence() -> None:
    clock = Clock()
    slots = Slots(2, clock)
    slots.take()
    assert slots.room
    slots.take()
    assert not slots.room
    clock.now += 1000
    assert slots.silent_s() == 0


def test_silence_begins_anew_when_a_slot_becomes_free() -> None:
    clock = Clock()
    slots = Slots(2, clock)
    slots.take()
    slots.take()
    clock.now += 1000
    slots.free()
    clock.now += 2
    assert slots.silent_s() == 2
    slots.free()
    clock.now += 3
    assert slots.silent_s() == 5, "a second slot that becomes free changes nothing"


def test_who_frees_the_first_of_all_slots_is_told() -> None:
    slots = Slots(2)
    slots.take()
    slots.take()
    assert slots.free()
    assert not slots.free()
