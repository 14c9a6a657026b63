"""What a call of the pipeline costs beyond its networks: `benchmark.py --only call`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from posepipe.networks.devices import resolve_device
from posepipe.networks.runtimes.base import RuntimeNetwork
from posepipe.pipeline import Pipeline

PHOTO = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
T = TypeVar("T")


def call_lines(*, rounds: int, precision: str, device: str) -> Iterator[str]:
    """What a call of the pipeline costs beyond its networks' forward passes, for 640x480 arrays.

    The networks' time is taken out of each call by watching them: from when one is given its pixels
    until its last output is there. Besides, they are run alone, in turns with the calls, on what
    they were given in a call and by as many threads; in a call they find the caches cold. The least
    of the rounds is what anything takes where nothing else disturbs it.
    """
    pipeline = Pipeline(device=device, precision=precision).load()
    where = resolve_device(device).type
    passes: list[Callable[[], object]] = []  # of the networks, since the list was emptied
    inside = [0.0, 0.0]  # seconds of networks so far, when the network now running began

    def now() -> float:
        if where == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def before() -> None:
        inside[1] = now()

    def after(*_: object) -> None:
        inside[0] += now() - inside[1]

    def watched(start: Callable[..., Sequence[Callable[[], T]]]) -> Callable[..., object]:
        def watching(*given: object, **how: object) -> Sequence[Callable[[], T]]:
            passes.append(lambda: [wait() for wait in start(*given, **how)])
            before()
            *waits, last = start(*given, **how)

            def wait_for_last() -> T:
                outputs = last()
                after()
                return outputs

            return [*waits, wait_for_last]

        return watching

    def note(network: torch.nn.Module, given: tuple[object, ...]) -> None:
        dtype, lower = torch.get_autocast_dtype(where), torch.is_autocast_enabled(where)

        @torch.inference_mode()
        def again() -> None:
            with torch.autocast(where, dtype=dtype, enabled=lower):
                network(*given)

        passes.append(again)
        before()

    first, second = pipeline.both_stages
    for network in (one.network for one in (*first.detectors, *second.models)):
        if isinstance(network, RuntimeNetwork):
            network._start = watched(network._start)  # type: ignore[method-assign]
        else:
            network.register_forward_pre_hook(note)
            network.register_forward_hook(after)
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize((640, 480)))
    boxes = pipeline.detect(photo).boxes_xyxy
    blank = np.full_like(photo, 128)
    calls: dict[str, Callable[[], object]] = {
        "pipeline(array), nobody": lambda: pipeline(blank),
        "pipeline.poses(array, boxes), one person": lambda: pipeline.poses(photo, boxes[:1]),
        f"pipeline(array), {len(boxes)} people": lambda: pipeline(photo),
    }
    columns = ("call", "networks alone", "in the call", "all else")
    yield f"{'one call':40}" + "".join(f" {name:>14}" for name in columns) + "   (ms)"
    for what, call in calls.items():
        passes.clear()
        call()
        again = tuple(passes)
        times = []
        for _ in range(10 * rounds):
            inside[0], begun = 0.0, now()
            call()
            ended, of_networks = now(), inside[0]
            for one in again:
                one()
            alone = now() - ended
            whole = ended - begun
            times.append((whole, alone, of_networks, whole - of_networks))
        yield f"{what:40}" + "".join(f" {1000 * min(of):14.2f}" for of in zip(*times, strict=True))
