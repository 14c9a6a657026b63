"""tf-cpn's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from posepipe.curation.importing.source import (
    DECODING,
    MEAN_RGB,
    Recognised,
    preprocessing,
    renamed,
    resnet_depth,
)
from posepipe.pose.networks.cpn import CPNTable

CLAMPED_EPS = 1.001e-5
"""What TensorFlow 1's fused batch normalisation makes of the 1e-9 that tf-cpn asks for."""

_BACKBONE = r"(resnet_v1_\d+)/"
# What an optimizer keeps: a slot beside each variable, and a few numbers of its own.
_SLOT = re.compile(r"(.+)/(Adam|Adam_1|Momentum|RMSProp|RMSProp_1)$")
_OWN_NUMBERS = re.compile(r"(beta[12]_power|Variable|global_step)(_\d+)?$")

# From our modules to theirs, which name levels after the backbone's stages: res2 is C2.
_MODULES = renamed(
    [
        (r"^backbone\.stages\.0\.[01]$", "BACKBONE/conv1"),
        (
            r"^backbone\.stages\.0\.4\.(\d+)\.",
            lambda m: f"BACKBONE/block1/unit_{int(m[1]) + 1}/bottleneck_v1/",
        ),
        (
            r"^backbone\.stages\.(\d)\.(\d+)\.",
            lambda m: f"BACKBONE/block{int(m[1]) + 1}/unit_{int(m[2]) + 1}/bottleneck_v1/",
        ),
        (r"^globalnet\.laterals\.(\d)\.[01]$", lambda m: f"lateral/res{int(m[1]) + 2}"),
        (r"^globalnet\.merges\.(\d)$", lambda m: f"merge/res{int(m[1]) + 2}"),
        (r"^globalnet\.heads\.(\d)\.0\.[01]$", lambda m: f"tmp/res{int(m[1]) + 2}"),
        (r"^globalnet\.heads\.(\d)\.1\.[01]$", lambda m: f"pyramid/res{int(m[1]) + 2}"),
        (
            r"^refinenet\.levels\.(\d)\.(\d)\.",
            lambda m: f"res{int(m[1]) + 2}/refine_conv{m[2]}/",
        ),
        (r"^refinenet\.final\.", "final_bottleneck/"),
        (r"^refinenet\.head\.[01]$", "refine_out"),
    ]
)
# The parts of a bottleneck: a convolution and its batch normalisation are one module there.
_PARTS = renamed(
    [(r"/(?:conv|bn)(\d)$", r"/conv\1"), (r"/(?:downsample|shortcut)\.[01]$", "/shortcut")]
)
_NORMALISATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def recognise(
    names: Collection[str],
    *,
    input_size_wh: tuple[int, int],
    batch_norm_eps: float | None = None,
) -> Recognised | None:
    """What a checkpoint with these names is; None if not tf-cpn's.

    Args:
        names: of all variables.
        input_size_wh: of the crops, which the weights do not tell.
        batch_norm_eps: None for what the code base ran with, 1.001e-5.
    """
    backbone = next((match[1] for name in names if (match := re.match(_BACKBONE, name))), None)
    parts = ("merge/", "pyramid/", "final_bottleneck/", "refine_out/")
    if backbone is None or not any(name.startswith(parts) for name in names):
        return None
    depth = resnet_depth(names, _BACKBONE.replace("(", "(?:") + r"block3/unit_(\d+)/")
    eps = CLAMPED_EPS if batch_norm_eps is None else batch_norm_eps
    given = msgspec.structs.replace(
        preprocessing(input_size_wh), colour_order="bgr", mean=MEAN_RGB[::-1]
    )

    def name_of(key: str) -> str:
        module, _, kind = key.rpartition(".")
        normalises = re.search(r"(\.bn\d|\.1)$", module) and not re.search(r"merges\.\d$", module)
        name = _PARTS(_MODULES(module)).replace("BACKBONE", backbone)
        if normalises:
            return f"{name}/BatchNorm/{_NORMALISATION[kind]}"
        return f"{name}/{'biases' if kind == 'bias' else 'weights'}"

    return Recognised(
        code_base="tf-cpn",
        because=(
            f"its variables begin with '{backbone}/', 'lateral/', 'merge/', 'pyramid/', "
            "'res3/refine_conv0/' and 'refine_out/'",
            f"batch normalisation with epsilon {eps:g}"
            + ("" if batch_norm_eps is not None else ", as TensorFlow 1 ran it; tf-cpn wrote 1e-9"),
        ),
        network=CPNTable(
            backbone=f"resnet{depth}",
            refine_bottlenecks=(0, 1, 2, 3),
            shortcut="identity",
            merge="bias",
            upsampling="tf1",
            concat_order="C2-C5",
            batch_norm_eps=eps,
            batch_norm_momentum=0.01,
        ),
        preprocessing=given,
        decoding=DECODING,
        name_of=name_of,
        transposed=True,
        folded={},
        ignored=lambda name: bool(_SLOT.match(name) or _OWN_NUMBERS.match(name)),
    )
