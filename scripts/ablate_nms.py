"""The paper's table 1 for any detector and set: kinds and thresholds of NMS, in one go.

    python scripts/ablate_nms.py --images DIR --annotations FILE [--model NAME]... [--json FILE]
    python scripts/ablate_nms.py --split minival


Detects once, keeps all boxes from before NMS, and suppresses them once for each row. Poses are
estimated once, too: of all boxes that any row has, since NMS picks boxes and changes scores, but
moves nothing. Each row then has the numbers that `posepipe detect`, `pose` and `eval` give.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from posepipe.core.boxes import Detections, clip, xyxy_to_xywh
from posepipe.core.poses import Poses
from posepipe.core.suppression import Suppression, suppress
from posepipe.detection.candidates import PERSON, Candidates
from posepipe.detection.stage import DetectionSettings, DetectionStage, ReadyImage, choose_people
from posepipe.errors import OptionError, PosepipeError
from posepipe.io.coco import image_files, read_annotations
from posepipe.io.documents import as_written
from posepipe.io.images import ImageFile
from posepipe.io.jsonfiles import write_whole
from posepipe.io.splits import find_split
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL, DetectionOptions, PoseOptions
from posepipe.pipeline import Pipeline
from posepipe.runtime.local import Outcome, run
from posepipe.scoring.evaluation import evaluate, evaluate_boxes

PAPERS_ROWS = ("hard:0.3", "hard:0.4", "hard:0.5", "hard:0.6", "soft_gaussian")
PATH = click.Path(path_type=Path)
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Row:
    """One kind of NMS and what comes of it: shares in [0, 1], None where there is no such number.

    Attributes:
        nms: as it was asked for.
        suppression: all of its settings.
        ap_all: COCO's box AP over all classes.
        ap_person: the same of the class person.
        ar_person: box AR of the class person, at 100 boxes an image.
        oks_ap: COCO's keypoint AP.
    """

    nms: str
    suppression: Suppression
    ap_all: float | None
    ap_person: float | None
    ar_person: float | None
    oks_ap: float | None


@dataclass(frozen=True, eq=False)
class Seen:
    """An image with all boxes that the detector proposes for it."""

    image: ImageFile
    size_wh: tuple[int, int]
    candidates: Candidates


class CandidateStage:
    """The detection stage up to NMS."""

    def __init__(self, stage: DetectionStage) -> None:
        self._stage = stage
        self.batch_size = stage.batch_size

    def prepare(self, item: ImageFile) -> ReadyImage:
        """See `DetectionStage.prepare`."""
        return self._stage.prepare(item)

    def weight(self, ready: ReadyImage) -> int:
        """An image fills one place of a batch."""
        return self._stage.weight(ready)

    def __call__(self, batch: Sequence[ReadyImage]) -> list[tuple[Candidates, tuple[int, int]]]:
        """Candidates and size of each image."""
        found = self._stage.candidates(batch)
        return [(one, ready.size_wh) for one, ready in zip(found, batch, strict=True)]


def suppression_of(text: str, base: Suppression) -> Suppression:
    """The NMS that a text like "hard:0.5" or "soft_gaussian" means; the rest is as in `base`.

    Raises:
        OptionError: no such kind, or a value out of range.
    """
    method, _, value = text.partition(":")
    field = "sigma" if method == "soft_gaussian" else "threshold"
    try:
        changes: dict[str, Any] = {field: float(value)} if value else {}
        return replace(base, method=method, **changes)
    except ValueError as error:
        raise OptionError(f"--nms {text}: {error}") from None


def without_repeats(
    found: Sequence[Detections],
) -> tuple[Detections, list[npt.NDArray[np.intp]]]:
    """The boxes of several answers for one image, each once, and where those of each answer are.

    >>> a = Detections(1, [[0, 0, 2, 2], [1, 1, 3, 3]], [0.9, 0.8])
    >>> b = Detections(1, [[1, 1, 3, 3]], [0.1])
    >>> boxes, places = without_repeats([a, b])
    >>> len(boxes), [place.tolist() for place in places]
    (2, [[0, 1], [1]])
    """
    boxes = np.concatenate([one.boxes_xyxy for one in found])
    unique, places = np.unique(boxes, axis=0, return_inverse=True)
    ends = np.cumsum([len(one) for one in found])[:-1]
    everybody = Detections(found[0].image_id, unique, np.ones(len(unique), np.float32))
    return everybody, np.split(places.reshape(-1), ends)


def poses_of(detections: Detections, everybody: Poses, places: npt.NDArray[np.intp]) -> Poses:
    """The poses of one answer's boxes, with its scores, out of those of all boxes."""
    return Poses(
        image_id=detections.image_id,
        keypoints=everybody.keypoints[places],
        scores=detections.scores.astype(np.float64),
        boxes_xyxy=detections.boxes_xyxy.astype(np.float64),
        box_scores=detections.scores.astype(np.float64),
    )


def why_not_all_classes(seen: Sequence[Seen], labels: COCO) -> str:
    """Why there is no AP over all classes; "" if there is one."""
    if len(labels.cats) < 2:
        return "the annotations have one category alone"
    if all((one.candidates.classes == PERSON).all() for one in seen):
        return "the detector knows no class but person"
    return ""


def ap_of_all_classes(seen: Sequence[Seen], suppression: Suppression, labels: COCO) -> float | None:
    """COCO's box AP over all categories of the annotations."""
    results = []
    for one in seen:
        picks = suppress(
            one.candidates.boxes_xyxy, one.candidates.scores, one.candidates.classes, suppression
        )
        boxes = xyxy_to_xywh(clip(one.candidates.boxes_xyxy[picks.indices], one.size_wh))
        classes = one.candidates.classes[picks.indices]
        for box, score, number in zip(boxes, picks.scores, classes, strict=True):
            results.append(
                {
                    "image_id": one.image.id,
                    "category_id": int(number),
                    "bbox": [float(side) for side in box],
                    "score": float(score),
                }
            )
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(labels, labels.loadRes(results), "bbox")
        evaluator.params.imgIds = [one.image.id for one in seen]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return None if evaluator.stats[0] == -1 else float(evaluator.stats[0])


def read_labels(annotations: Path) -> COCO:
    """The annotations of all categories, as pycocotools has them."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(annotations))
    labels.dataset.setdefault("info", {})  # loadRes copies it
    return labels


def results_of(outcomes: Iterable[Outcome[In, Out]]) -> Iterator[tuple[In, Out]]:
    """Items with their results.

    Raises:
        PosepipeError: an image cannot be read: the numbers would not be those of the set.
    """
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None  # noqa: S101  # one of the two is there
        yield outcome.item, outcome.result


def ablate(
    kinds: Mapping[str, Suppression],
    pipeline: Pipeline,
    images: Sequence[ImageFile],
    annotations: Path,
    *,
    all_annotations: Path | None = None,
    min_score: float = 0.0,
    workers: int = 2,
) -> tuple[list[Row], str]:
    """A row for each kind of NMS, and why there is no AP over all classes, if there is none.

    Args:
        kinds: what to try, by name.
        pipeline: its detectors, scales and mirror images, and its pose models; not its NMS.
        images: the images, with the annotations' ids.
        annotations: a COCO file with keypoints.
        all_annotations: one with the boxes of all categories, if that is another.
        min_score: people with a lower box score are left out; the paper leaves out none.
        workers: threads that read images.

    Raises:
        PosepipeError: a model, an image or the annotations cannot be used.
    """
    pipeline.load()  # before all the work: models may be missing
    labels = read_labels(all_annotations or annotations)
    shown = tqdm(images, "detect", unit=" images", disable=None, file=sys.stderr)
    looked = results_of(run(CandidateStage(pipeline.detection_stage), shown, workers=workers))
    seen = [Seen(image, size_wh, candidates) for image, (candidates, size_wh) in looked]
    reason = why_not_all_classes(seen, labels)
    found = {
        name: [
            as_written(
                choose_people(
                    one.candidates,
                    one.image.id,
                    one.size_wh,
                    DetectionSettings(suppression=kind, min_score=min_score),
                )
            )
            for one in seen
        ]
        for name, kind in kinds.items()
    }
    once = [without_repeats(answers) for answers in zip(*found.values(), strict=True)]
    items = [(one.image, everybody) for one, (everybody, _) in zip(seen, once, strict=True)]
    progress = tqdm(items, "poses", unit=" images", disable=None, file=sys.stderr)
    everybodys_poses = [
        poses for _, poses in results_of(run(pipeline.pose_stage, progress, workers=workers))
    ]
    rows = []
    for number, (name, kind) in enumerate(kinds.items()):
        poses = [
            pipeline.finish(poses_of(detections, everybody, places[number]))
            for detections, everybody, (_, places) in zip(
                found[name], everybodys_poses, once, strict=True
            )
        ]
        boxes = evaluate_boxes(found[name], annotations)
        card = evaluate(poses, annotations, per_keypoint=False)
        ap_all = None if reason else ap_of_all_classes(seen, kind, labels)
        rows.append(Row(name, kind, ap_all, boxes.ap, boxes.ar, card.ap))
    return rows, reason


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the paper's table, in per cent."""
    yield "| NMS | AP all | AP person | AR person | OKS AP |"
    yield "|---|---|---|---|---|"
    for row in rows:
        numbers = (row.ap_all, row.ap_person, row.ar_person, row.oks_ap)
        cells = ("–" if number is None else f"{100 * number:.1f}" for number in numbers)
        yield f"| {row.nms} | {' | '.join(cells)} |"


@click.command()
@click.option("--split", help="A COCO set: minival, val2017, train2017.")
@click.option("--data", type=PATH, help="COCO's folder.  [default: $POSEPIPE_DATA, datasets/coco]")
@click.option("--images", type=PATH, help="The images' folder, instead of a set.")
@click.option("--annotations", type=PATH, help="Their COCO annotation file.")
@click.option("--all-annotations", type=PATH, help="A file of all categories, for AP all.")
@click.option("--nms", multiple=True, default=PAPERS_ROWS, help="A row: hard:0.5, soft_linear:0.3.")
@click.option("--model", "detectors", multiple=True, default=(DEFAULT_DETECTOR,))
@click.option("--weights", type=PATH, help="A weights file in place of the detector's own.")
@click.option("--scales", default="1", show_default=True, help="Sizes to look at, e.g. 0.8,1,1.25.")
@click.option("--flip", is_flag=True, help="Detect in mirror images, too.")
@click.option("--pose-model", "pose_models", multiple=True, default=(DEFAULT_POSE_MODEL,))
@click.option("--min-score", default=0.0, show_default=True, help="Leave out boxes below.")
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "json_file", type=PATH, help="Also write the numbers to this file.")
def main(**options: Any) -> None:
    """Print the paper's table 1 for a detector and a set."""
    try:
        rows, reason = _ablate(options)
    except PosepipeError as error:
        click.echo(f"ablate_nms: {error}", err=True)
        sys.exit(1)
    click.echo("\n".join(markdown(rows)))
    if reason:
        click.echo(f"\nNo AP over all classes: {reason}.")


def _ablate(options: Mapping[str, Any]) -> tuple[list[Row], str]:
    images, annotations = options["images"], options["annotations"]
    all_annotations = options["all_annotations"]
    if options["split"]:
        found = find_split(options["split"], options["data"])
        images, annotations = found.images, found.annotations
        instances = annotations.with_name(annotations.name.replace("person_keypoints", "instances"))
        if all_annotations is None and instances.is_file():
            all_annotations = instances
    if images is None or annotations is None:
        raise OptionError("name a --split, or --images and --annotations")
    try:
        scales = tuple(float(scale) for scale in options["scales"].split(","))
    except ValueError:
        raise OptionError(f"--scales takes numbers, got {options['scales']!r}") from None
    detection = DetectionOptions(
        models=options["detectors"],
        weights=options["weights"],
        scales=scales,
        flip=options["flip"],
    )
    pose = PoseOptions(models=options["pose_models"])
    pipeline = Pipeline(detection, pose, device=options["device"], precision=options["precision"])
    of_recipe = pipeline.detection_stage.settings.suppression
    kinds = {text: suppression_of(text, of_recipe) for text in options["nms"]}
    rows, reason = ablate(
        kinds,
        pipeline,
        list(image_files(read_annotations(annotations), images)),
        annotations,
        all_annotations=all_annotations,
        min_score=options["min_score"],
        workers=options["workers"],
    )
    if options["json_file"] is not None:
        document = {
            "detectors": list(options["detectors"]),
            "scales": scales,
            "flip": options["flip"],
            "pose_models": list(options["pose_models"]),
            "annotations": annotations.name,
            "no_ap_all_because": reason,
            "rows": rows,
        }
        encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
        write_whole(options["json_file"], [encoded, b"\n"])
    return rows, reason


if __name__ == "__main__":
    main()
