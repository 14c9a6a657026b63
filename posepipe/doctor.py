"""What is installed here and whether it works: what a report of a problem should begin with.

Nothing that is broken ends the examination: it becomes the `problem` of a fact.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from posepipe.errors import PosepipeError

_T = TypeVar("_T")

# The modules of the packages that posepipe needs, where the two have different names.
_MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "tomli-w": "tomli_w",
    "pillow-heif": "pillow_heif",
}
_DEVELOPERS = ("dev", "docs")
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*(?:;.*\bextra == \"(\w+)\")?")
_SIZE_HW = (480, 640)
_REPETITIONS = 3


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at.

    Attributes:
        name: what.
        value: what was found; a few words.
        problem: what is broken about it, and the remedy; "" if nothing is.
    """

    name: str
    value: str
    problem: str = ""


@dataclass(frozen=True)
class Section:
    """Facts that belong together.

    Attributes:
        title: what they are about.
        facts: in the order in which they were looked at.
    """

    title: str
    facts: tuple[Fact, ...]


def examine(
    *,
    device: str = "auto",
    precision: str = "auto",
    image: str | Path | None = None,
    variables: Collection[str] = (),
) -> Iterator[Section]:
    """Look at everything that results and speed depend on; a section as soon as it is done.

    Args:
        device: where the timed image runs.
        precision: of the same.
        image: what is timed; None takes an image of noise, with one box.
        variables: the environment variables that stand for options: others that begin with
            ``POSEPIPE_`` and are not known here are told as unknown.
    """
    yield Section("versions", tuple(_guarded("versions", _versions)))
    yield Section("device", tuple(_guarded("device", lambda: _devices(device))))
    yield Section("runtimes and files", tuple(_runtimes()))
    yield Section("models", tuple(_guarded("models", _models)))
    yield Section("environment", tuple(_environment(variables)))
    timed = _guarded("image", lambda: _timed(device, precision, image))
    yield Section("a timed image", tuple(timed))


def shown(text: str) -> str:
    """A text without what a public report should not have: the user's home, passwords in URLs.

    >>> shown("https://me:secret@example.org/models")
    'https://…@example.org/models'
    """
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    return re.sub(r"(://)[^/@\s]+@", r"\1…@", text)


def _guarded(name: str, look: Callable[[], Iterator[Fact]]) -> Iterator[Fact]:
    """The facts up to the first thing that fails; that is the last of them."""
    try:
        yield from look()
    except PosepipeError as error:
        yield Fact(name, "failed", str(error))
    except Exception as error:  # whatever is broken here is what is asked for
        yield Fact(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _versions() -> Iterator[Fact]:
    place = Path(__file__).parent
    yield Fact("posepipe", f"{_version('posepipe') or 'not installed'} ({shown(str(place))})")
    yield Fact("Python", f"{platform.python_version()} ({shown(sys.executable)})")
    yield Fact("system", f"{platform.platform()}, {platform.machine()}")
    extras: dict[str, list[str]] = {}
    for text in _requirements():
        found = _REQUIREMENT.match(text)
        name, extra = found.groups() if found else (text, "")
        if not extra:
            yield _package(name, everywhere="platform_machine" not in text)
        elif extra not in _DEVELOPERS:
            extras.setdefault(extra, []).append(name)
    for extra, names in extras.items():
        here = [f"{name} {version}" for name in names if (version := _version(name))]
        yield Fact(f"[{extra}]", ", ".join(here) or "not installed")
    rivals = [name for name in ("opencv-python", "opencv-contrib-python") if _version(name)]
    if rivals:
        yield Fact(
            rivals[0],
            _version(rivals[0]),
            f"{rivals[0]} and opencv-python-headless overwrite each other's files: keep one",
        )


def _package(name: str, *, everywhere: bool) -> Fact:
    """A package that posepipe needs, imported; not `everywhere`: on some kinds of machines only."""
    version = _version(name)
    if not version and not everywhere:
        return Fact(name, "not installed")
    if not version:
        return Fact(name, "not installed", f"{name} is missing: pip install {name}")
    try:
        import_module(_MODULES.get(name, name))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        return Fact(name, version, f"{name} cannot be imported ({reason}): install it again")
    return Fact(name, version)


def _devices(device: str) -> Iterator[Fact]:
    import torch

    from posepipe.networks.devices import cpu_abilities, resolve_device
    from posepipe.networks.resources import free_memory, usable_cores

    abilities = torch.backends.cpu.get_cpu_capability()
    name = cpu_abilities().get("cpu_name") or platform.processor() or "unknown"
    yield Fact("processor", f"{name}, {abilities}")
    yield Fact("cores", f"{usable_cores()} of {os.cpu_count()} usable, torch takes {_threads()}")
    yield Fact("memory", f"{free_memory() / 2**30:.1f} GiB free")
    if not torch.cuda.is_available():
        build = (
            f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU torch"
        )
        yield Fact("GPU", f"none usable ({build})")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        free, total = (number / 2**30 for number in torch.cuda.mem_get_info(index))
        yield Fact(
            f"cuda:{index}",
            f"{about.name}, compute capability {about.major}.{about.minor}, {free:.1f} of "
            f"{total:.1f} GiB free, CUDA {torch.version.cuda}",
        )
    chosen = resolve_device(device)
    yield Fact(f"--device {device}", str(chosen))


def _threads() -> str:
    import torch

    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def _runtimes() -> Iterator[Fact]:
    yield from _guarded("onnxruntime", _onnxruntime)
    yield from _guarded("openvino", _openvino)
    yield from _guarded("videos", _videos)
    yield from _guarded("images", _images)


def _onnxruntime() -> Iterator[Fact]:
    if find_spec("onnxruntime") is None:
        yield Fact("onnxruntime", "not installed: pip install 'posepipe[onnxruntime]'")
        return
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Fact("onnxruntime", f"{onnxruntime.__version__} ({providers})")


def _openvino() -> Iterator[Fact]:
    if find_spec("openvino") is None:
        yield Fact("openvino", "not installed: pip install 'posepipe[openvino]'")
        return
    import posepipe.networks.runtimes  # noqa: F401, I001  # first: it keeps the other silent
    import openvino

    yield Fact("openvino", openvino.__version__)


def _videos() -> Iterator[Fact]:
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Fact("videos", f"PyAV {av.__version__}, libavcodec {codec}")


def _images() -> Iterator[Fact]:
    from PIL import features

    optional = ("avif", "jpg_2000", "webp")
    here = [name for name in optional if features.check(name)]
    heif = ["heif"] if find_spec("pillow_heif") is not None else []
    yield Fact("images", ", ".join(["jpg", "png", "tiff", *here, *heif]))


def _models() -> Iterator[Fact]:
    from posepipe.curation.golden import GOLDEN_FILE, verify
    from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL
    from posepipe.zoo.cache import cache_folder, pins_file, state_of, weights_by_name
    from posepipe.zoo.recipe import list_recipes

    counts = {"can be fetched": 0, "no weights": 0}
    for recipe in list_recipes():
        state = state_of(recipe)
        if state in counts:
            counts[state] += 1
            continue
        try:
            path, _ = weights_by_name(recipe, offline=True)
        except PosepipeError as error:
            yield Fact(recipe.name, "damaged", str(error))
            continue
        value = f"{state}, {path.stat().st_size / 1e6:.1f} MB, its SHA-256 is right"
        problem = ""
        default = recipe.name in (DEFAULT_DETECTOR, DEFAULT_POSE_MODEL)
        if default and (recipe.folder / GOLDEN_FILE).is_file():
            found = verify(recipe)
            value += f", gives its golden numbers to {found.largest:.0e}"
            if not found.passed:
                problem = f"{recipe.name} differs from its golden numbers by {found.largest:.1e}"
        yield Fact(recipe.name, value, problem)
    yield Fact("others", ", ".join(f"{count} {state}" for state, count in counts.items()))
    yield _folder("cache", cache_folder())
    pins = pins_file()
    yield Fact("pins", shown(str(pins)) if pins.is_file() else "none")


def _folder(name: str, folder: Path) -> Fact:
    """A folder that may have files or not yet exist, but must be writable then."""
    if not folder.is_dir():
        return Fact(name, f"{shown(str(folder))}, does not exist yet")
    files = [path for path in folder.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    value = f"{shown(str(folder))}, {len(files)} files, {megabytes:.0f} MB"
    if not os.access(folder, os.W_OK | os.X_OK):
        value += ", read-only"  # which is legal: containers have it so
    return Fact(name, value)


def _environment(variables: Collection[str]) -> Iterator[Fact]:
    from posepipe.io.splits import DATA_VARIABLE
    from posepipe.networks.runtimes.names import VARIABLE as RUNTIME_VARIABLE

    own = {"CACHE", "MIRROR", "OFFLINE", "PINS"}
    known = {DATA_VARIABLE, RUNTIME_VARIABLE, *(f"POSEPIPE_{name}" for name in own), *variables}
    names = [name for name in sorted(os.environ) if name.startswith("POSEPIPE_")]
    names += [name for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES") if name in os.environ]
    for name in names:
        unknown = name.startswith("POSEPIPE_") and name not in known
        value = shown(os.environ[name]) + (" (unknown: nothing reads it)" if unknown else "")
        yield Fact(name, value)
    if not names:
        yield Fact("variables", "none")


def _timed(device: str, precision: str, image: str | Path | None) -> Iterator[Fact]:
    import numpy as np

    from posepipe.io.inputs import one_image
    from posepipe.networks.devices import precision_name
    from posepipe.pipeline import Pipeline

    if image is None:
        pixels = np.random.default_rng(0).integers(0, 256, (*_SIZE_HW, 3), dtype=np.uint8)
        what = "noise"
    else:
        pixels, what = one_image(image).read(), Path(image).name
    height, width = pixels.shape[:2]
    begun = time.perf_counter()
    pipeline = Pipeline(device=device, precision=precision).load()
    seconds = time.perf_counter() - begun
    [detector], [model] = pipeline.detection_stage.origins, pipeline.pose_stage.models
    formats = f"detector in {detector.precision}, poses in {precision_name(model.dtype)}"
    yield Fact("models", f"loaded in {seconds:.2f} s; {formats}")
    found, seconds = _median(lambda: pipeline.detect(pixels))
    yield Fact(
        "detect", f"{1000 * seconds:.0f} ms, {what} of {width}x{height}, people found: {len(found)}"
    )
    boxes = found.boxes_xyxy if len(found) else [[0, 0, width, height]]
    poses, seconds = _median(lambda: pipeline.poses(pixels, boxes))
    yield Fact("pose", f"{1000 * seconds:.0f} ms for {len(poses)} box{'es' * (len(poses) > 1)}")


def _median(call: Callable[[], _T]) -> tuple[_T, float]:
    """What a call gives, and the median of its seconds once it is warm."""
    result, seconds = call(), []
    for _ in range(_REPETITIONS):
        begun = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begun)
    return result, statistics.median(seconds)


def _requirements() -> list[str]:
    """What posepipe needs; nothing is known of a folder of its code that is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.requires("posepipe") or []
    return []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
