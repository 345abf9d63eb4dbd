"""The last free child is left to the other lanes, as long as there are any."""

from erasestream.pipeline.stages.inference.worker.child_slots import PRESENT_S, ChildSlots


class Slots:
    """Slots whose clock the test sets; each of these lanes has just sent an upload."""

    def __init__(self, children: int, lanes: str) -> None:
        self.now_s = 0.0
        self.slots = ChildSlots(children, clock=lambda: self.now_s)
        for lane in lanes:
            self.slots.add_upload(lane)

    def begun(self, lane: str, wanted: int) -> int:
        """Begin as many images of a lane as are allowed, up to `wanted`; return how many."""
        for count in range(wanted):
            if not self.slots.is_free_for(lane):
                return count
            self.slots.occupy(lane)
        return wanted


def test_a_lane_that_is_alone_has_all_children() -> None:
    slots = Slots(4, "a")
    assert slots.begun("a", 9) == 4


def test_the_last_child_is_left_to_another_lane() -> None:
    slots = Slots(4, "ab")
    assert slots.begun("a", 9) == 3
    assert slots.begun("b", 9) == 1
    slots.slots.free("a")
    assert (slots.begun("a", 9), slots.begun("c", 9)) == (0, 1)


def test_a_lane_without_a_child_gets_the_only_one() -> None:
    slots = Slots(1, "ab")
    assert slots.begun("a", 9) == 1
    assert slots.begun("b", 9) == 0
    slots.slots.free("a")
    assert slots.begun("b", 9) == 1


def test_a_lane_that_has_stopped_sending_leaves_its_child_to_others() -> None:
    slots = Slots(2, "ab")
    assert slots.begun("a", 9) == 1
    slots.now_s += PRESENT_S
    slots.slots.add_upload("a")
    assert slots.begun("a", 9) == 1
