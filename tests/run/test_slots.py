import threading

from runner.run.on_this_host import Slots
from tests.conftest import until


def taking(slots: Slots) -> threading.Event:
    """Take a slot in a thread of its own; the event is set once there was one."""
    taken = threading.Event()

    def take() -> None:
        slots.take()
        taken.set()

    threading.Thread(target=take, daemon=True).start()
    return taken


def test_there_are_so_many_slots_and_no_more() -> None:
    """Who comes when all are taken gets the next that is given back."""
    slots = Slots(1)
    slots.take()
    waiting = taking(slots)
    assert not waiting.wait(0.1)
    slots.give()
    assert waiting.wait(5)
    assert slots.taken == 1


def test_what_runs_already_counts_though_it_need_not_wait() -> None:
    """With more of them than there are slots, nothing starts until all but that many are gone."""
    slots = Slots(1)
    slots.take_over()
    slots.take_over()
    waiting = taking(slots)
    slots.give()
    assert not waiting.wait(0.1)
    slots.give()
    assert waiting.wait(5)


def test_a_closed_place_gives_out_nothing() -> None:
    """Whatever is free, until it is opened again."""
    slots = Slots(2)
    slots.close()
    waiting = taking(slots)
    assert not waiting.wait(0.1)
    slots.open()
    assert waiting.wait(5)


def test_a_slot_is_lent_back_while_closed_only() -> None:
    """Who waits for a retry in a closed place does not keep it from being empty."""
    slots = Slots(1)
    slots.take()
    slots.renew()
    assert slots.taken == 1
    slots.close()
    renewed = threading.Thread(target=slots.renew, daemon=True)
    renewed.start()
    until(lambda: slots.taken == 0)
    slots.open()
    renewed.join(5)
    assert (slots.taken, renewed.is_alive()) == (1, False)


def test_who_lends_a_slot_back_is_counted() -> None:
    """It has something to do still."""
    slots = Slots(1)
    slots.take()
    slots.close()
    renewed = threading.Thread(target=slots.renew, daemon=True)
    renewed.start()
    until(lambda: slots.renewing == 1)
    slots.open_for_good()
    renewed.join(5)
    assert slots.renewing == 0


def test_what_is_open_for_good_is_never_closed() -> None:
    """Who looks for the end of its work must not wait for ever."""
    slots = Slots(1)
    slots.open_for_good()
    slots.close()
    assert taking(slots).wait(5)
