"""A stage over a stream of items: one in, one out, and failures that disturb nobody."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from posepipe.errors import ImageError, WeightsError
from posepipe.runtime.local import run


class Doubling:
    """Doubles numbers; a number weighs itself; some cannot be prepared."""

    def __init__(self, batch_size=4, bad=(), broken=()):
        self.batch_size, self.bad, self.broken = batch_size, bad, broken
        self.batches = []

    def prepare(self, item):
        if item in self.bad:
            raise ImageError(f"{item} cannot be read")
        if item in self.broken:
            raise ZeroDivisionError("a bug")
        return float(item)

    def weight(self, ready):
        return int(ready)

    def __call__(self, batch):
        self.batches.append(list(batch))
        return [2 * ready for ready in batch]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("items", [[], [0], [3], [0, 0, 0], [9, 0, 1, 2, 0, 7, 1, 1, 1]])
def test_one_in_one_out_in_order(items, workers):
    outcomes = list(run(Doubling(), items, workers=workers))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.result for outcome in outcomes] == [2.0 * item for item in items]
    assert all(outcome.error is None for outcome in outcomes)


def test_batches_are_formed_by_weight_across_items():
    stage = Doubling(batch_size=4)
    list(run(stage, [1, 1, 3, 0, 9, 2, 0]))
    assert stage.batches == [[1, 1, 3], [0, 9], [2, 0]]


def test_a_stage_that_pads_what_exceeds_a_batch_gets_none_that_does() -> None:
    stage = Doubling(batch_size=4)
    stage.may_exceed = False
    assert [outcome.result for outcome in run(stage, [3, 2, 2, 5, 1])] == [6, 4, 4, 10, 2]
    assert [len(batch) for batch in stage.batches] == [1, 2, 1, 1]


def test_items_without_weight_are_handed_on_together_before_they_become_too_many():
    stage = Doubling()
    outcomes = run(stage, iter(lambda: 0, 1))  # zeros without end
    assert next(outcomes).result == 0
    outcomes.close()
    assert len(stage.batches[0]) == 64


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [[], [1], [2], [5], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_an_item_that_fails_carries_its_error_and_disturbs_no_other(bad, workers):
    items = [1, 2, 3, 4, 5]
    outcomes = list(run(Doubling(bad=bad), items, workers=workers))
    assert [outcome.item for outcome in outcomes] == items
    for outcome in outcomes:
        if outcome.item in bad:
            assert outcome.result is None
            assert isinstance(outcome.error, ImageError)
            assert str(outcome.error) == f"{outcome.item} cannot be read"
        else:
            assert (outcome.result, outcome.error) == (2.0 * outcome.item, None)


def test_where_everything_fails_the_stage_is_not_called():
    stage = Doubling(bad=[1, 2])
    assert len(list(run(stage, [1, 2, 1]))) == 3
    assert stage.batches == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bug_is_not_taken_for_a_bad_image(workers):
    with pytest.raises(ZeroDivisionError):
        list(run(Doubling(broken=[2]), [1, 2, 3], workers=workers))


def test_outcomes_come_as_soon_as_their_batch_is_done():
    stage = Doubling(batch_size=1)
    outcomes = run(stage, [5, 6, 7], workers=0)
    next(outcomes)
    assert stage.batches == [[5]]


@pytest.mark.parametrize("batch_size", [4, 50])
def test_the_next_batch_is_prepared_while_the_network_works(batch_size):
    class Slow(Doubling):
        prepared = 0

        def prepare(self, item):
            self.prepared += 1
            return super().prepare(item)

        def __call__(self, batch):
            wanted = sum(map(len, self.batches)) + len(batch) + batch_size
            deadline = time.monotonic() + 20
            while self.prepared < wanted and time.monotonic() < deadline:
                time.sleep(0.001)
            seen.append(self.prepared >= wanted)
            return super().__call__(batch)

    seen = []
    stage = Slow(batch_size)
    outcomes = run(stage, iter(lambda: 1, 0), workers=1)
    for _ in range(2 * batch_size):
        next(outcomes)
    outcomes.close()
    assert seen[:2] == [True, True]


class Arrays(Doubling):
    """Items that hold as many bytes as their numbers say."""

    def prepare(self, item):
        return np.zeros(item, np.uint8)

    def weight(self, ready):
        return 1

    def __call__(self, batch):
        self.batches.append(list(batch))
        return [len(ready) for ready in batch]


@pytest.mark.parametrize("size", [1, 60, 1000])
@pytest.mark.parametrize("batch_size", [4, 50])
def test_what_waits_holds_no_more_than_is_allowed_and_what_is_at_work(size, batch_size):
    class Counts(Arrays):
        most = held = 0

        def prepare(self, item):
            with lock:
                self.held += item
                self.most = max(self.most, self.held)
            return super().prepare(item)

        def __call__(self, batch):
            time.sleep(0.02)  # the threads would run far ahead if they could
            with lock:
                self.held -= sum(map(len, batch))
            return super().__call__(batch)

    lock = threading.Lock()
    stage = Counts(batch_size)
    outcomes = run(stage, [size] * 100, workers=2, most_bytes=600)
    assert [outcome.result for outcome in outcomes] == [size] * 100
    # What may wait and a batch, which has at least four items; one at work in each thread.
    assert stage.most <= 600 + max(600, 4 * size) + 2 * size


@pytest.mark.parametrize(
    ("batch_size", "size", "expected"),
    [
        (16, 1, [16, 4]),
        (16, 65, [8, 8, 4]),
        (16, 1000, [4] * 5),
        (4, 1000, [4] * 5),
        (1, 9, [1] * 20),
    ],
)
def test_large_items_fill_a_batch_sooner_but_at_least_four_do(batch_size, size, expected):
    stage = Arrays(batch_size)
    list(run(stage, [size] * 20, most_bytes=1000))
    assert [len(batch) for batch in stage.batches] == expected


# --- stages that start batches ahead


class Ahead(Doubling):
    """Doubles numbers; up to `ahead` batches are started before the results of one are asked for.

    Attributes:
        events: "start" and "finish" with the first item of the batch, in their order.
    """

    def __init__(self, ahead=2, batch_size=4, bad=(), fails_to_start=(), fails=()):
        super().__init__(batch_size, bad)
        self.ahead, self.fails_to_start, self.fails = ahead, fails_to_start, fails
        self.events = []

    def start(self, batch):
        self.events.append(("start", batch[0]))
        if set(batch) & set(self.fails_to_start):
            raise WeightsError("cannot start")

        def finish():
            self.events.append(("finish", batch[0]))
            if set(batch) & set(self.fails):
                raise WeightsError("cannot finish")
            return [2 * ready for ready in batch]

        return finish

    def __call__(self, batch):
        self.batches.append(batch)
        return self.start(batch)()


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("bad", [(), (3,), (1, 2, 3, 4, 5, 6, 7)])
def test_batches_started_ahead_keep_their_order(ahead, bad):
    items = [1, 2, 3, 4, 5, 6, 7]
    outcomes = list(run(Ahead(ahead, 2, bad), items, workers=2))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.result for outcome in outcomes] == [None if n in bad else 2 * n for n in items]
    assert [outcome.error is not None for outcome in outcomes] == [n in bad for n in items]


@pytest.mark.parametrize("ahead", [1, 2])
def test_results_are_asked_for_when_so_many_batches_are_started_ahead(ahead):
    stage = Ahead(ahead, batch_size=1)
    stream = run(stage, [1, 2, 3, 4], workers=1)
    assert next(stream).result == 2
    assert stage.events == [*(("start", n) for n in range(1, ahead + 2)), ("finish", 1)]
    assert [outcome.result for outcome in stream] == [4, 6, 8]
    assert [what for what, _ in stage.events].count("start") == 4
    assert stage.batches == []


def test_without_workers_each_batch_is_called_alone():
    stage = Ahead(batch_size=1)
    stream = run(stage, [1, 2], workers=0)
    next(stream)
    assert stage.batches == [[1]]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("where", ["fails_to_start", "fails"])
def test_a_failure_comes_after_all_that_went_before_and_nothing_comes_after_it(ahead, where):
    stream = run(Ahead(ahead, batch_size=1, **{where: [3]}), [1, 2, 3, 4, 5], workers=1)
    assert [next(stream).result, next(stream).result] == [2, 4]
    with pytest.raises(WeightsError, match="cannot"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_items_that_end_in_an_error_end_the_stream_after_all_they_gave(workers):
    def items():
        yield from range(1, 20)
        raise OSError("the list ends here")

    def outcomes():
        for outcome in run(stage, items(), workers=workers):
            seen.append(outcome.result)

    seen, stage = [], Ahead(batch_size=2)
    with pytest.raises(OSError, match="ends here"):
        outcomes()
    assert seen == [2 * n for n in range(1, 20)]
    assert {n for what, n in stage.events if what == "finish"} == {n for _, n in stage.events}


@pytest.mark.parametrize(("size", "most_at_work"), [(1, 3), (60, 2), (100, 1), (1000, 1)])
def test_batches_at_work_hold_no_more_than_may_wait(size, most_at_work):
    class Counts(Ahead):
        at_work = most = 0

        def prepare(self, item):
            return np.zeros(item, np.uint8)

        def weight(self, ready):
            return 1

        def start(self, batch):
            self.at_work += 1
            self.most = max(self.most, self.at_work)

            def finish():
                self.at_work -= 1
                return [len(ready) for ready in batch]

            return finish

    stage = Counts(batch_size=4)
    outcomes = run(stage, [size] * 40, workers=2, most_bytes=600)
    assert [outcome.result for outcome in outcomes] == [size] * 40
    assert stage.most == most_at_work


def test_leaving_the_loop_stops_the_threads():
    for outcome in run(Doubling(), range(1000), workers=2):
        if outcome.item == 3:
            break
    del outcome
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("posepipe-prefetch")]


def test_runs_nest_one_stage_feeding_the_next():
    first = (outcome.result for outcome in run(Doubling(), range(20)))
    assert [outcome.result for outcome in run(Doubling(), first)] == [4.0 * n for n in range(20)]
