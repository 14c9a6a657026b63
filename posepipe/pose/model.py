"""A pose model: a network with everything its recipe says about input and output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from posepipe.core.skeleton import Skeleton
from posepipe.errors import OptionError, RecipeError, WeightsError
from posepipe.networks.devices import multiplies_fp16, put, resolve_device, resolve_precision
from posepipe.networks.precision import fits_fp16
from posepipe.networks.runtimes.base import (
    Placement,
    RuntimeNetwork,
    start_all,
    starts_ahead,
)
from posepipe.networks.runtimes.cached import in_runtime
from posepipe.networks.runtimes.export import Exportable
from posepipe.networks.runtimes.names import AUTO, TORCH
from posepipe.networks.runtimes.registry import (
    open_network,
    place_file,
    place_network,
    runtime_version,
)
from posepipe.networks.threads import one_thread
from posepipe.pose.codecs.base import Codec, Response
from posepipe.pose.codecs.choose import AnyDecodingTable, codec_of, decoding_table
from posepipe.pose.codecs.simcc import SimCCTable
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.networks.base import PoseNetwork
from posepipe.pose.networks.build import (
    Head,
    backend_of,
    build_network,
    network_table,
    with_head,
)
from posepipe.pose.networks.onnx import OnnxTable, network_content
from posepipe.pose.networks.quicken import quicken
from posepipe.zoo.embedded import OPENVINO
from posepipe.zoo.recipe import Recipe, load_recipe
from posepipe.zoo.skeleton import recipe_skeleton
from posepipe.zoo.weights import exported_file, find_weights, fit_state, read_state

RECIPE_TABLES = ("skeleton", "network", "preprocessing", "decoding")
"""The parts of a pose model's recipe that affect its poses."""


@dataclass(frozen=True, eq=False)
class PoseModel:
    """A pose network ready to run.

    Attributes:
        name: the recipe's.
        network: images (B, 3, H, W) to heatmaps (B, K, h, w), or whatever else its codec reads, in
            evaluation mode, on `device`.
        preprocessing: how crops are made and normalised.
        decoding: how keypoints are read off what the network gives.
        skeleton: what the K keypoints are.
        device: where the network lies.
        dtype: the number format of its convolutions.
        runtime: what computes it, with its version.
        weights_sha256: of the weights file; "" for random weights.
    """

    name: str
    network: nn.Module
    preprocessing: PreprocessingTable
    decoding: AnyDecodingTable
    skeleton: Skeleton
    device: torch.device
    dtype: torch.dtype
    runtime: str = f"torch {torch.__version__}"
    weights_sha256: str = ""

    @property
    def codec(self) -> Codec:
        """What reads keypoints off the network's response."""
        return codec_of(self.decoding)

    def respond(self, pixels: Tensor, *, flip: bool) -> Response:
        """The network's response, float32 on the model's device, to (B, h, w, 3) uint8 RGB crops.

        Args:
            pixels: crops of the model's input size, on any device; B = 0 is legal.
            flip: average with the response to the mirrored crops (CPN, section 4.1).

        Raises:
            WeightsError: the network does not give what its codec reads.
        """
        return self.start(pixels, flip=flip, alone=True)()

    @property
    def ahead(self) -> int:
        """How many calls of `start` may go ahead, see `starts_ahead`."""
        return starts_ahead(self.network, self.device)

    @property
    def is_elsewhere(self) -> bool:
        """Whether another library than torch runs the network."""
        return isinstance(self.network, RuntimeNetwork)

    @torch.inference_mode()
    def start(self, pixels: Tensor, *, flip: bool, alone: bool = False) -> Callable[[], Response]:
        """Begin to compute what `respond` gives; the function that comes back waits for it.

        Args:
            pixels: as in `respond`.
            flip: as in `respond`.
            alone: see `RuntimeNetwork.start`.

        Raises:
            WeightsError: as `respond`; here or by the function.
        """
        size_wh, codec = self.preprocessing.input_size_wh, self.codec
        if len(pixels) == 0:
            nowhere = torch.zeros((0, len(self.skeleton), 2), device=self.device)
            nothing = codec.encode(nowhere, size_wh)
            return lambda: nothing
        pixels = pixels.to(self.device, non_blocking=True)
        if flip:  # as one batch of twice the size
            with one_thread(self.is_elsewhere):
                pixels = torch.cat([pixels, pixels.flip(2)])
        lower = self.dtype != torch.float32 and not self.is_elsewhere
        with torch.autocast(self.device.type, dtype=self.dtype) if lower else nullcontext():
            normalisation = self.preprocessing.normalisation
            given = start_all(self.network, [pixels], normalisation, alone=alone)

        @torch.inference_mode()
        def finish() -> Response:
            [outputs] = given()
            parts = outputs if isinstance(outputs, tuple) else (outputs,)
            response = tuple(part.float() for part in parts)
            fault = codec.check(response, len(self.skeleton), size_wh)
            if fault:
                raise WeightsError(f"the network of {self.name} {fault}")
            if not flip:
                return response
            plain, mirrored = zip(*(part.chunk(2) for part in response), strict=True)
            with one_thread(self.is_elsewhere):
                back = codec.flip(mirrored, self.skeleton.mirrored)
                return codec.average([plain, back], [codec, codec])

        return finish

    def heatmaps(self, pixels: Tensor, *, flip: bool) -> Tensor:
        """The heatmaps (B, K, h, w) of a network that gives heatmaps: see `respond`."""
        return self.respond(pixels, flip=flip)[0]


def load_pose_model(
    name_or_path: str | Path,
    *,
    weights: str | Path | None = None,
    head: Head = "final",
    changes: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> PoseModel:
    """A pose model of the zoo by its name, or of any folder or file by its path, with its weights.

    Args:
        name_or_path: the model.
        weights: a weights file in place of the one beside the recipe.
        head: "global" leaves out a CPN's RefineNet; see `build_pose_network`.
        changes: fields of the recipe to override, see `Recipe.with_changes`.
        device: see `posepipe.networks.devices.resolve_device`.
        precision: see `posepipe.networks.devices.resolve_precision`; but "auto" is fp16 for torch
            on a CUDA GPU that multiplies it, if the network's numbers fit: as fast as bf16, and
            closer to fp32 by eight times.
        runtime: see `posepipe.networks.runtimes.registry.place_network`.

    Raises:
        RecipeError: no such model, or its recipe has a wrong field.
        WeightsError: its weights are missing, damaged or of another network.
        OptionError: the device, the precision, the runtime or the head is not available here.
        MissingDependencyError: its runtime is not installed.
    """
    recipe = load_recipe(name_or_path).with_changes(changes, known=RECIPE_TABLES)
    file = exported_file(recipe, weights)
    if file is not None or backend_of(recipe) == "onnx":
        check_unchanged(recipe, head=head)
        if precision == "auto" and backend_of(recipe) == "onnx":
            precision = "fp32"  # as its makers measured it
        file = file or Path(f"{recipe.name}.onnx")
        placement = place_file(file, runtime, device=device, precision=precision)
        path, digest = find_weights(recipe, weights)
        return _pose_model(recipe, _opened(recipe, path, placement), placement, digest)
    whole = build_pose_network(recipe, head=head)
    placement = place_network(runtime, device=device, precision=precision, model=recipe.name)
    path, digest = find_weights(recipe, weights)

    def with_weights() -> PoseNetwork:
        unused = ("refinenet.",) if head == "global" else ()
        fit_state(whole, read_state(path), path, ignored=unused)
        return whole

    made_of = {
        "weights": digest,
        "network": with_head(network_table(recipe), head),
        "size_wh": recipe.table("preprocessing", PreprocessingTable).input_size_wh,
    }
    network, placement = in_runtime(
        recipe.name,
        made_of,
        placement,
        lambda: exportable(recipe, with_weights()),
        normalisation=recipe.table("preprocessing", PreprocessingTable).normalisation,
    )
    model = _pose_model(recipe, network, placement, digest)
    if precision == "auto" and not model.is_elsewhere and _runs_in_fp16(model):
        return replace(model, dtype=torch.float16)
    return model


def _runs_in_fp16(model: PoseModel) -> bool:
    """Whether torch should run it in fp16: by its device, and by its numbers for random squares."""
    if not multiplies_fp16(model.device):
        return False
    width, height = model.preprocessing.input_size_wh
    random = np.random.default_rng(0)
    crops = []
    for size in (1, 4, 16, 64):
        squares = random.integers(0, 256, (-(-height // size), -(-width // size), 3), np.uint8)
        crops.append(squares.repeat(size, 0).repeat(size, 1)[:height, :width])
    pixels = torch.from_numpy(np.stack(crops)).to(model.device)
    return fits_fp16(model.network, model.preprocessing.normalisation(pixels))


def torch_if_possible(model: str | Path) -> str:
    """The runtime for numbers that shall not depend on what is installed.

    That is torch, but for exported networks, which it does not run.
    """
    recipe = load_recipe(model)
    return AUTO if recipe.exported or backend_of(recipe) == "onnx" else TORCH


def exportable(recipe: Recipe, network: PoseNetwork) -> Exportable:
    """A pose network of a recipe as exporters want it."""
    size_wh = recipe.table("preprocessing", PreprocessingTable).input_size_wh
    return Exportable(network, ("heatmaps",), size_wh, quicken=quicken)


def check_unchanged(recipe: Recipe, *, head: Head = "final") -> None:
    """Check that nothing is asked of an exported network that it was not exported with.

    Raises:
        OptionError: something is.
    """
    ours = backend_of(recipe) != "onnx"
    if head != "final" or (ours and any(one.startswith("network.") for one in recipe.changes)):
        raise OptionError(
            f"model {recipe.name!r} is an exported network and runs as it was exported: leave out "
            "--head and --set network.…"
        )


def _opened(recipe: Recipe, path: Path, placement: Placement) -> RuntimeNetwork:
    """The network of a file: an exported one of ours, or another program's."""
    of_others = backend_of(recipe) == "onnx"
    wanted = recipe.table("network", OnnxTable).outputs if of_others else ()
    source = path if path.suffix == OPENVINO else network_content(path)
    given = recipe.table("preprocessing", PreprocessingTable)
    network = open_network(
        source, placement, place=str(path), wanted=wanted, normalisation=given.normalisation
    )
    network.check_takes(given.input_size_wh)
    return network


def pose_model(
    recipe: Recipe,
    network: nn.Module,
    *,
    device: str = "auto",
    precision: str = "auto",
    weights_sha256: str = "",
) -> PoseModel:
    """A pose model from a recipe and a torch network already built, with its present weights.

    Raises:
        RecipeError: the recipe has a wrong field.
        OptionError: the device or precision is not available here.
    """
    where = resolve_device(device)
    placement = Placement(TORCH, where, resolve_precision(precision, where))
    return _pose_model(recipe, network, placement, weights_sha256)


def _pose_model(
    recipe: Recipe, network: nn.Module, placement: Placement, weights_sha256: str
) -> PoseModel:
    where = placement.device
    put(network.eval().requires_grad_(False), where)
    return PoseModel(
        name=recipe.name,
        network=network,
        preprocessing=recipe.table("preprocessing", PreprocessingTable),
        decoding=decoding_table(recipe),
        skeleton=recipe_skeleton(recipe),
        device=where,
        dtype=placement.dtype,
        runtime=runtime_version(network),
        weights_sha256=weights_sha256,
    )


def build_pose_network(recipe: Recipe, *, head: Head = "final") -> PoseNetwork:
    """The network of a pose recipe, with random weights.

    Args:
        recipe: the recipe; its ``[network] architecture`` says which network it is.
        head: "final" is the whole network; "global" is a CPN without its RefineNet, which predicts
            what GlobalNet predicts from P2.

    Raises:
        RecipeError: the recipe is not of a pose network, or has a wrong field.
        OptionError: the network has no such head.
    """
    backend = backend_of(recipe)
    if backend:
        raise RecipeError(
            f"model {recipe.name!r} is run by {backend} as it is: it cannot be trained, averaged "
            "with crop networks or measured here"
        )
    table = with_head(network_table(recipe), head)
    network = build_network(table)
    decoding = decoding_table(recipe)
    if isinstance(decoding, SimCCTable):
        raise RecipeError(f"{recipe.name}: its network gives heatmaps, decoding.codec is 'simcc'")
    stride = decoding.stride
    if stride != network.stride:
        raise RecipeError(
            f"{recipe.name}: decoding.stride is {stride}, the network's heatmaps have stride "
            f"{network.stride}"
        )
    return network


def keys_of_keypoints(recipe: Recipe) -> set[str]:
    """The weights of a pose network whose shapes its number of keypoints decides: its heads.

    Raises:
        RecipeError: the recipe has a wrong field.
    """
    table = network_table(recipe)
    one_more = msgspec.structs.replace(table, keypoints=table.keypoints + 1)
    with torch.device("meta"):  # shapes alone
        shapes, others = (
            {key: weight.shape for key, weight in build_network(one).state_dict().items()}
            for one in (table, one_more)
        )
    return {key for key, shape in shapes.items() if others[key] != shape}
