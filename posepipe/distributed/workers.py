"""What each worker of a cluster loads: a pipeline, by its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posepipe.distributed.ray_engine import Stages
from posepipe.networks.threads import use_threads
from posepipe.options import DetectionOptions, PoseOptions
from posepipe.pipeline import Pipeline


@dataclass(frozen=True)
class PipelineStages:
    """Makes the stages of a pipeline; called in the worker, on whose machine devices are chosen.

    Attributes:
        detection, pose: the models.
        where: `Pipeline`'s arguments about device, precision and runtime.
        threads: that compute, in each worker.
    """

    detection: DetectionOptions
    pose: PoseOptions
    where: Mapping[str, str]
    threads: int

    def __call__(self) -> Stages:
        """The stages, their models loaded.

        Raises:
            PosepipeError: a model cannot be loaded.
        """
        use_threads(self.threads)
        pipeline = Pipeline(self.detection, self.pose, **self.where)
        detection, pose = pipeline.both_stages
        return Stages(detection, pose, pipeline.finish, pipeline.made_by("run"))
