"""Rows of `benchmark.py` about runtimes and peers: all take turns within each round."""

from __future__ import annotations

import statistics
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import torch
from peers import People, ancestors, one_box_at_a_time, torchvisions_own
from safetensors.torch import save_file

from posepipe.detection.loading import load_detector
from posepipe.detection.stage import DetectionStage
from posepipe.detection.torchvision import Preprocessing
from posepipe.io.images import ImageFile
from posepipe.networks.devices import precision_name, resolve_device, resolve_precision
from posepipe.networks.recording import TwoSizes
from posepipe.networks.runtimes.base import RuntimeNetwork
from posepipe.networks.runtimes.export import tensors_of, to_onnx
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.runtimes.registry import RUNTIMES
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL, PoseOptions
from posepipe.pipeline import Pipeline
from posepipe.pose.crops import cut_crops
from posepipe.pose.model import PoseModel, build_pose_network, exportable, load_pose_model
from posepipe.pose.stage import PoseStage
from posepipe.runtime.both import run_through_both
from posepipe.runtime.local import run
from posepipe.zoo.recipe import Recipe, load_recipe

TWO_STAGES = "person-detector-cspnext-fpn"
Stages = tuple[DetectionStage, PoseStage]
K = TypeVar("K")
Work = Callable[[], int]
Speed = Callable[[Work], float]


@dataclass(frozen=True)
class Place:
    """A runtime and a precision on the CPU, and the models, detector first."""

    runtime: str
    precision: str
    models: tuple[str, str] = (DEFAULT_DETECTOR, DEFAULT_POSE_MODEL)

    def __str__(self) -> str:
        exported = "" if self.models == Place.models else ", exported files"
        return f"{self.runtime}, {self.precision}{exported}"


def places(precision: str, files: tuple[str, str] | None) -> list[Place]:
    """What is installed: torch first, as it would compute by itself, then torch in fp32, others.

    Args:
        precision: of torch.
        files: exported models, detector first, to run in OpenVINO as well.
    """
    own = precision_name(resolve_precision(precision, resolve_device("cpu")))
    precisions = list(dict.fromkeys([own, "fp32"]))
    found = [Place(TORCH, one) for one in precisions]
    for name, registered in RUNTIMES.items():
        if registered.is_installed:
            known = ["fp32"] if name == "onnxruntime" else precisions
            found += [Place(name, one) for one in known]
    if files is not None:
        found += [Place("openvino", one, files) for one in precisions]
    return found


def in_turns(works: Mapping[K, Work], speed: Speed, rounds: int) -> dict[K, list[float]]:
    """The speed of each in every round, after one to warm up."""
    speeds: dict[K, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        order = list(works) if number % 2 else list(reversed(works))
        for name in order:
            measured = speed(works[name])
            if number:
                speeds[name].append(measured)
    return speeds


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def table(title: str, speeds: Mapping[str, list[float]], unit: str, first: str) -> Iterator[str]:
    """Lines with the median of each, and the median of its ratio to the first one's."""
    yield f"{title:56} {unit:>9} {'ratio':>6}"
    for name, values in speeds.items():
        yield f"  {name:54} {statistics.median(values):9.2f} {ratio(values, speeds[first]):6.2f}"


def runtime_lines(
    images: Sequence[ImageFile],
    people: People,
    *,
    speed: Speed,
    rounds: int,
    precision: str,
    files: tuple[str, str] | None = None,
) -> Iterator[str]:
    """Every runtime: the pose stage beside its network, the detection stage, both together."""
    everyone = places(precision, files)
    both: dict[str, Stages] = {}
    for place in everyone:
        where = {"device": "cpu", "runtime": place.runtime, "precision": place.precision}
        first, second = Pipeline(*place.models, **where).load().both_stages
        assert isinstance(second, PoseStage)  # noqa: S101  # the default model is a crop network
        both[str(place)] = first, second
    for flip in (True, False):
        yield from pose_lines(
            {name: with_flip(stage, flip=flip) for name, (_, stage) in both.items()},
            f"{DEFAULT_POSE_MODEL}, {'with' if flip else 'no'} mirror images, crops/s",
            people,
            speed=speed,
            rounds=rounds,
        )
    works = {name: partial(detected, stages, images) for name, stages in both.items()}
    speeds = in_turns(works, speed, rounds)
    yield from table(f"detect {DEFAULT_DETECTOR}", speeds, "images/s", str(everyone[0]))
    works = {name: partial(done, stages, images) for name, stages in both.items()}
    yield from table("run, both", in_turns(works, speed, rounds), "images/s", str(everyone[0]))


def pose_lines(
    stages: Mapping[str, PoseStage],
    title: str,
    people: People,
    *,
    speed: Speed,
    rounds: int,
) -> Iterator[str]:
    """Each stage, from files to poses, and its bare network; the ratio, and those to the first."""
    works = {(name, False): bare_network(stage, people) for name, stage in stages.items()}
    works |= {(name, True): partial(posed, stage, people) for name, stage in stages.items()}
    speeds = in_turns(works, speed, rounds)
    first = next(iter(stages))
    yield f"{title:56} {'bare':>9} {'ratio':>6} {'stage':>9} {'ratio':>6} {'stage/bare':>10}"
    for name in stages:
        columns = [
            f" {statistics.median(speeds[name, whole]):9.2f}"
            f" {ratio(speeds[name, whole], speeds[first, whole]):6.2f}"
            for whole in (False, True)
        ]
        kept = ratio(speeds[name, True], speeds[name, False])
        yield f"  {name:54}" + "".join(columns) + f" {kept:10.3f}"


def with_flip(stage: PoseStage, *, flip: bool) -> PoseStage:
    """The same stage with or without the flip test."""
    models = [
        replace(model, decoding=msgspec.structs.replace(model.decoding, flip=flip))
        for model in stage.models
    ]
    return PoseStage(models)


def posed(stage: PoseStage, people: People, *, workers: int | None = None) -> int:
    """How many people there are, after their poses are estimated from the files."""
    return sum(len(outcome.result or ()) for outcome in run(stage, people, workers=workers))


def detected(stages: Stages, images: Sequence[ImageFile], *, workers: int | None = None) -> int:
    """How many images there are, after people are detected in the files."""
    return sum(1 for _ in run(stages[0], images, workers=workers))


def done(stages: Stages, images: Sequence[ImageFile], *, workers: int | None = None) -> int:
    """How many images there are, after both stages."""
    return sum(1 for _ in run_through_both(*stages, images, workers=workers))


@contextmanager
def weights_of(recipe: Recipe) -> Iterator[Path | None]:
    """Random weights for a model that has none: speed does not depend on them."""
    if recipe.has_weights:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file(build_pose_network(recipe).state_dict(), file)
        yield file


def crops_of(people: People, model: PoseModel) -> torch.Tensor:
    """(N, h, w, 3) uint8 RGB: people cut out by OpenCV as a model wants them."""
    cut = [cut_crops(image.read(), found, model.preprocessing) for image, found in people]
    return torch.from_numpy(np.concatenate([one.pixels for one in cut]))


def as_taken(model: PoseModel, pixels: torch.Tensor) -> torch.Tensor:
    """Crops (B, h, w, 3) uint8 as the bare network takes them, which is how the stage runs it.

    Torch's takes them normalised; in other runtimes that is part of the network.
    """
    pixels = pixels.to(model.device)
    if isinstance(model.network, RuntimeNetwork):
        return pixels
    return model.preprocessing.normalisation(pixels)


def as_stages_run_it(
    network: torch.nn.Module, batch_size: int, *, times: int = 1, shapes: int = 1
) -> Callable[[torch.Tensor], object]:
    """A network in torch: on CUDA recorded, see `TwoSizes`, elsewhere as it is."""

    def compute(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensors_of(network(images)))

    recorded = TwoSizes(compute, batch_size, times=times, shapes=shapes)
    return lambda images: recorded(images) if images.is_cuda else network(images)


def bare_network(stage: PoseStage, people: People) -> Work:
    """A stage's network alone, on people who are cut out, mirrored and as it takes them.

    So it is as fast as it can be: in passes like the stage's, of which as many are started ahead
    as the stage starts; on CUDA recorded, as in the stage.
    """
    [model] = stage.models
    network = model.network
    in_torch = as_stages_run_it(network, stage.batch_size, times=2 if stage.decoding.flip else 1)
    crops = crops_of(people, model)
    batches = [crops[start:end] for start, end in pairwise(stage.starts(len(crops)))]
    if stage.decoding.flip:
        batches = [torch.cat([batch, batch.flip(2)]) for batch in batches]
    batches = [as_taken(model, batch) for batch in batches]
    lower = model.dtype != torch.float32

    @torch.inference_mode()
    def bare() -> int:
        at_work: deque[Callable[[], Iterable[object]]] = deque()
        for batch in batches:
            if isinstance(network, RuntimeNetwork):
                at_work.append(network.start([batch]))
                if len(at_work) > network.ahead:
                    list(at_work.popleft()())
            else:
                with torch.autocast(model.device.type, dtype=model.dtype, enabled=lower):
                    in_torch(batch)
        for outputs in at_work:
            list(outputs())
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return len(crops)

    return bare


def peer_lines(
    images: Sequence[ImageFile], people: People, *, speed: Speed, rounds: int
) -> Iterator[str]:
    """Others' ways to run networks of the same weights, and ours; fp32 where it is not said.

    Theirs are computed in the paper's order, but for one row; ours as `quicken` has them.
    """
    plain = load_pose_model(DEFAULT_POSE_MODEL, device="cpu", precision="fp32", runtime=TORCH)
    given = plain.preprocessing

    def stage(*, flip: bool, **place: str) -> Work:
        options = PoseOptions(flip=flip)
        made = Pipeline(pose=options, device="cpu", **place).pose_stage
        return lambda: sum(len(outcome.result or ()) for outcome in run(made, people))

    theirs = "a person at a time, 17 blurs in Python (the two CPN code bases)"
    speeds = in_turns(
        {
            theirs: lambda: ancestors(people, plain.network, given),
            "ours, torch": stage(flip=True, precision="fp32", runtime=TORCH),
            "ours, as it comes": stage(flip=True),
        },
        speed,
        rounds,
    )
    yield from table(f"{DEFAULT_POSE_MODEL}, with mirror images", speeds, "people/s", theirs)
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        yield "one box at a time in ONNX Runtime: onnxruntime or onnx is not installed, left out"
    else:
        import onnxruntime

        ours = exportable(load_recipe(DEFAULT_POSE_MODEL), plain.network)  # type: ignore[arg-type]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        as_written, quick = (
            onnxruntime.InferenceSession(to_onnx(one), options)
            for one in (replace(ours, quicken=None), ours)
        )
        theirs = "a box a pass in ONNX Runtime (rtmlib's way)"
        speeds = in_turns(
            {
                theirs: lambda: one_box_at_a_time(people, as_written, given),
                "the same with our exported network": lambda: one_box_at_a_time(
                    people, quick, given
                ),
                "ours, ONNX Runtime": stage(flip=False, precision="fp32", runtime="onnxruntime"),
                "ours, as it comes": stage(flip=False),
            },
            speed,
            rounds,
        )
        yield from table(f"{DEFAULT_POSE_MODEL}, no mirror images", speeds, "people/s", theirs)
    detector = load_detector(TWO_STAGES, device="cpu", precision="fp32")
    detection, table_of = DetectionStage([detector]), load_recipe(TWO_STAGES)
    given_to_detector = table_of.table("preprocessing", Preprocessing)
    own = "torchvision's own transform, an image a call"
    speeds = in_turns(
        {
            own: lambda: torchvisions_own(images, detector.network, given_to_detector),  # type: ignore[attr-defined]
            "ours": lambda: sum(1 for _ in run(detection, images)),
        },
        speed,
        rounds,
    )
    yield from table(f"{TWO_STAGES}, a torchvision R-CNN", speeds, "images/s", own)
