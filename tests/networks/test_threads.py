from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import torch

from posepipe.networks import threads
from posepipe.networks.threads import one_thread, threads_in_use, use_threads


@pytest.fixture(autouse=True)
def _threads_as_before():
    of_torch, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(of_torch)
    cv2.setNumThreads(of_opencv)


def test_never_more_threads_than_cores_compute(monkeypatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    torch.set_num_threads(2)
    assert (use_threads(), torch.get_num_threads()) == (2, 2)  # torch's own choice
    assert (use_threads(1), torch.get_num_threads(), cv2.getNumThreads()) == (1, 1, 1)
    assert (use_threads(64), torch.get_num_threads()) == (3, 3)


def test_torchs_work_beside_another_librarys_takes_one_thread() -> None:
    torch.set_num_threads(2)
    with one_thread(False):
        assert torch.get_num_threads() == 2
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_threads_that_work_so_at_the_same_time_leave_the_number_as_it_was() -> None:
    torch.set_num_threads(2)
    seen = []

    def work() -> None:
        for _ in range(200):
            with one_thread():
                seen.append(torch.get_num_threads())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_the_number_in_use_is_not_that_of_another_threads_small_work() -> None:
    torch.set_num_threads(2)
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with one_thread():
            entered.set()
            leave.wait(60)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(work)
        assert entered.wait(60)
        asked = pool.submit(threads_in_use)
        assert not asked.done()
        leave.set()
        assert asked.result(60) == 2
