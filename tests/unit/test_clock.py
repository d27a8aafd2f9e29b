"""A wall clock that is set back is noticed; one that runs ahead or is slewed is not."""

from flows.clock import ClockWatch


class Clocks:
    wall = 1_000.0
    steady = 5.0

    def watch(self) -> ClockWatch:
        return ClockWatch(lambda: self.wall, lambda: self.steady)

    def go_on(self, wall: float, steady: float) -> None:
        self.wall += wall
        self.steady += steady


def test_a_step_back_is_its_length_once() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.go_on(1.0 - 600.0, 1.0)
    assert watch.set_back() == 600.0
    clocks.go_on(1.0, 1.0)
    assert watch.set_back() == 0.0


def test_a_step_ahead_hides_no_later_step_back() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.go_on(900.0, 1.0)
    assert watch.set_back() == 0.0
    clocks.go_on(1.0 - 600.0, 1.0)
    assert watch.set_back() == 600.0


def test_a_clock_that_is_slewed_is_not_set_back() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    for _ in range(100):
        clocks.go_on(0.9995, 1.0)
        assert watch.set_back() == 0.0
