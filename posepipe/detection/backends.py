"""The backends of detectors: what a recipe's ``[detector] backend`` can name.

A backend is a module of this package with the functions of `Backend`; it is imported when a recipe
names it, since each is a large library or builds on one. Importing this file imports none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from posepipe.detection.candidates import Detector, Origin
    from posepipe.networks.runtimes.base import Placement
    from posepipe.zoo.recipe import Recipe

DETECTRON2 = "detectron2"
"""The backend's name; in place of a model's name: a network described by a configuration alone."""


class Backend(Protocol):
    """What makes detectors from recipes. Every function raises RecipeError for a wrong field."""

    def load(
        self,
        recipe: Recipe,
        *,
        placement: Placement,
        weights: str | Path | None = None,
    ) -> Detector[Any]:
        """The recipe's detector with its weights.

        Args:
            recipe: one that names this backend.
            placement: where and how it runs; in torch, unless the backend `exports`.
            weights: a weights file in place of the one beside the recipe.

        Raises:
            WeightsError: no weights, damaged ones, or those of another network.
            DownloadError: the weights cannot be fetched, or may not be.
            MissingDependencyError: the backend's library is not installed.
        """
        ...

    def build(self, recipe: Recipe) -> nn.Module | None:
        """The recipe's network with random weights; None where only its library knows it.

        Its state_dict has the names of the weights file.
        """
        ...

    def detector(
        self,
        network: Any,
        recipe: Recipe,
        *,
        origin: Origin,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Detector[Any]:
        """A detector around a network of `build`, which it takes over and may change in place."""
        ...


@dataclass(frozen=True)
class Registered:
    """A backend that is available.

    Attributes:
        open: imports it.
        library: the package that it needs and that is not installed with posepipe; "" for none.
        exports: whether other runtimes than torch can run its networks.
    """

    open: Callable[[], Backend]
    library: str = ""
    exports: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether the package that it needs is installed."""
        return not self.library or find_spec(self.library) is not None


def _torchvision() -> Backend:
    from posepipe.detection import torchvision

    return torchvision


def _detectron2() -> Backend:
    from posepipe.detection import detectron

    return detectron


def _detectron2_native() -> Backend:
    from posepipe.detection.native import detector

    return detector


def _rtmdet() -> Backend:
    from posepipe.detection import rtmdet

    return rtmdet


BACKENDS: Mapping[str, Registered] = {
    "torchvision": Registered(_torchvision),
    "rtmdet": Registered(_rtmdet, exports=True),
    DETECTRON2: Registered(_detectron2, library="detectron2"),
    "detectron2_native": Registered(_detectron2_native),
}
DEFAULT_BACKEND = "torchvision"


def backend_of(recipe: Recipe) -> Backend:
    """The backend that a recipe names, imported.

    Raises:
        RecipeError: it names none, or a field of ``[detector]`` is wrong.
    """
    return registered_backend(recipe).open()


def registered_backend(recipe: Recipe) -> Registered:
    """The backend that a recipe names; errors as `backend_of`."""
    from posepipe.detection.candidates import DetectorTable

    return BACKENDS[recipe.table("detector", DetectorTable).backend]
