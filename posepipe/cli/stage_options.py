"""Options of the stages: which models, and how they are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from posepipe.cli.completion import models_of
from posepipe.cli.options import COUNT, FRACTION, PATH, set_option, together
from posepipe.cli.progress import say
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError

if TYPE_CHECKING:
    from posepipe.options import DetectionOptions, PoseOptions
    from posepipe.pipeline import Command, Pipeline


def _numbers(_: click.Context, __: click.Parameter, given: str | None) -> tuple[float, ...] | None:
    """The numbers of a comma-separated string.

    Raises:
        OptionError: it is not a list of numbers.
    """
    try:
        return None if given is None else tuple(float(number) for number in given.split(","))
    except ValueError:
        raise OptionError(f"--scales takes numbers like 0.8,1,1.25, got {given!r}") from None


# The names of these parameters are a stage's and the field of its options (`posepipe.options`) that
# they fill; what is not given keeps that field's default.


def _detector_options(model: str, prefix: str) -> Callable[[Any], Any]:
    """The detection options of `detect` and `run`; `run` has the pose options as well."""
    return together(
        click.option(
            model,
            "detection_models",
            multiple=True,
            shell_complete=models_of("detection"),
            help="Name or folder of a detector; the boxes of several are pooled.  [default: "
            "person-detector-rtmdet-nano]",
        ),
        click.option(
            f"--{prefix}config",
            "detection_config",
            help="For the model detectron2: a YAML file, or a name in its model zoo.",
        ),
        click.option(
            f"--{prefix}weights",
            "detection_weights",
            type=PATH,
            help="A weights file instead of the detector's own.",
        ),
        click.option(
            "--nms",
            "detection_nms",
            type=click.Choice(["soft_gaussian", "soft_linear", "hard", "none"]),
            help="Kind of non-maximum suppression.  [default: the model's]",
        ),
        click.option(
            "--nms-threshold",
            "detection_nms_threshold",
            type=FRACTION,
            help="IoU threshold of hard and soft_linear NMS.",
        ),
        click.option(
            "--nms-sigma", "detection_nms_sigma", type=float, help="Sigma of soft_gaussian NMS."
        ),
        click.option(
            "--top-k",
            "detection_top_k",
            type=COUNT,
            help="How many boxes of all classes to keep.  [default: 100]",
        ),
        click.option(
            "--scales",
            "detection_scales",
            callback=_numbers,
            help="Sizes of the image to process, relative to the model's, such as 0.8,1,1.25.  "
            "[default: the model's]",
        ),
        click.option(
            "--min-score",
            "detection_min_score",
            type=FRACTION,
            help="Lowest box score of a person; 0: keep all boxes.  [default: the model's]",
        ),
        click.option(
            f"--{prefix}flip",
            "detection_flip",
            is_flag=True,
            default=None,
            help="Also detect in the mirror images.",
        ),
        click.option(
            f"--{prefix}batch-size",
            "detection_batch_size",
            type=COUNT,
            help="Images per pass of the detector.  [default: 4; on a CUDA GPU up to 16]",
        ),
        set_option(f"--{prefix}set", "detection_changes", "preprocessing.short_side=640"),
    )


detection_options = _detector_options("--model", "")
detection_options_of_run = _detector_options("--detector", "detector-")

pose_options: Callable[[Any], Any] = together(
    click.option(
        "--model",
        "pose_models",
        multiple=True,
        shell_complete=models_of("pose"),
        help="Name or folder of a pose model; the heatmaps of several are averaged.  "
        "[default: cpn-litehrnet-256x192]",
    ),
    click.option(
        "--weights",
        "pose_weights",
        type=PATH,
        help="A weights file instead of the pose model's own.",
    ),
    click.option(
        "--head",
        "pose_head",
        type=click.Choice(["final", "global"]),
        help="global: skip a CPN's RefineNet, which is faster and less accurate.  [default: final]",
    ),
    click.option(
        "--flip/--no-flip",
        "pose_flip",
        default=None,
        help="Flip test: average with the mirror images.",
    ),
    click.option(
        "--blur-kernel",
        "pose_blur_kernel",
        type=int,
        help="Size of the Gaussian filter on heatmaps, in cells; 1: no filter.",
    ),
    click.option(
        "--quarter-offset/--no-quarter-offset",
        "pose_quarter_offset",
        default=None,
        help="Shift keypoints by a quarter cell towards the second highest response.",
    ),
    click.option(
        "--rescore/--no-rescore",
        "pose_rescore",
        default=None,
        help="Pose score = box score x mean keypoint confidence.  [default: rescore]",
    ),
    click.option(
        "--oks-nms",
        "pose_oks_nms",
        type=FRACTION,
        help="Remove poses whose OKS with a better one exceeds this.",
    ),
    click.option(
        "--batch-size",
        "pose_batch_size",
        type=COUNT,
        help="Crops per pass of the pose network; on a CPU up to twice as many.  [default: 4, "
        "without the flip test 8; on a GPU 32 to 128]",
    ),
    set_option("--set", "pose_changes", "decoding.flip=false"),
)

compile_option: Callable[[Any], Any] = click.option(
    "--compile",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Compile the networks with torch.compile; auto: the pose network, on a CUDA GPU, for "
    "100,000 images or more with the flip test.",
)


def pipeline_of(
    options: dict[str, Any],
    *,
    detection: DetectionOptions | None = None,
    pose: PoseOptions | None = None,
) -> Pipeline:
    """The pipeline that a command runs; weights of the stages named are fetched first.

    Raises:
        PosepipeError: weights cannot be fetched, or no such device or precision here.
    """
    from posepipe.networks.threads import use_threads
    from posepipe.pipeline import Pipeline

    fetch_weights(options, detection=detection, pose=pose)
    use_threads(options["threads"])
    return Pipeline(detection, pose, **where_to_run(options))


def compile_if_wanted(
    pipeline: Pipeline, options: dict[str, Any], command: Command, *, images: int
) -> None:
    """What --compile says of a command's networks; where it is "auto" and fails, a warning.

    "auto" compiles pose networks with the flip test alone: without it a GPU is faster than it gets
    images, compiled or not (docs/speed.md), and of a detector's images those of all but a few
    shapes would be neither compiled nor recorded.

    Raises:
        PosepipeError: a model cannot be loaded, or not compiled though that was asked for.
    """
    from posepipe.networks.compiling import pays
    from posepipe.networks.devices import resolve_device
    from posepipe.pose.stage import PoseStage

    wanted = options["compile"]
    if wanted == "off":
        return
    if wanted == "auto":
        if command == "detect" or not pays(resolve_device(pipeline.device), images):
            return
        stage = pipeline.pose_stage
        if not (isinstance(stage, PoseStage) and stage.decoding.flip):
            return
        command = "pose"
    say("posepipe: compiling the networks, which takes up to minutes", verbose=False)
    try:
        pipeline.compile(command)
    except OptionError as error:
        if wanted == "on":
            raise
        echo(f"posepipe: warning: {error}", err=True)


def fetch_weights(
    options: dict[str, Any],
    *,
    detection: DetectionOptions | None = None,
    pose: PoseOptions | None = None,
) -> None:
    """Bring the weights of the stages named here, where they are missing.

    Raises:
        PosepipeError: they cannot be fetched.
    """
    from posepipe.cli.fetching import fetch_missing

    offline = options["offline"]
    if detection is not None:
        fetch_missing(detection.models, detection.weights, stage="detection", offline=offline)
    if pose is not None:
        fetch_missing(pose.models, pose.weights, stage="pose", offline=offline)


def where_to_run(options: dict[str, Any]) -> dict[str, str]:
    """`Pipeline`'s arguments about device, precision and runtime."""
    return {name: options[name] for name in ("device", "precision", "runtime")}


def chosen_detection(options: dict[str, Any]) -> DetectionOptions:
    """The detection options that the command line's stand for."""
    from posepipe.options import DetectionOptions

    make = DetectionOptions.fast if options["fast"] else DetectionOptions
    return make(**_given("detection_", options))


def chosen_pose(options: dict[str, Any]) -> PoseOptions:
    """The pose options that the command line's stand for."""
    from posepipe.options import PoseOptions

    make = PoseOptions.fast if options["fast"] else PoseOptions
    return make(**_given("pose_", options))


def _given(prefix: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a stage that were given, by the names of their fields."""
    return {
        name.removeprefix(prefix): value
        for name, value in options.items()
        if name.startswith(prefix) and value not in (None, ())
    }
