"""pytorch-cpn's checkpoints, of all three generations."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from posepipe.curation.importing.source import (
    DECODING,
    Recognised,
    preprocessing,
    renamed,
    resnet_depth,
)
from posepipe.pose.networks.cpn import CPNTable

_PREFIX = "module."  # every key's, in what a network spread over several GPUs saves

# From our keys to theirs; they count levels from C5, we from C2.
_NAMES = renamed(
    [
        (r"^backbone\.stages\.0\.0\.", "resnet.conv1."),
        (r"^backbone\.stages\.0\.1\.", "resnet.bn1."),
        (r"^backbone\.stages\.0\.4\.", "resnet.layer1."),
        (r"^backbone\.stages\.(\d)\.", lambda m: f"resnet.layer{int(m[1]) + 1}."),
        (r"^globalnet\.laterals\.(\d)\.", lambda m: f"global_net.laterals.{3 - int(m[1])}."),
        (
            r"^globalnet\.merges\.(\d)\.(\d)\.",
            lambda m: f"global_net.upsamples.{2 - int(m[1])}.{int(m[2]) + 1}.",
        ),
        (
            r"^globalnet\.heads\.(\d)\.0\.(\d)\.",
            lambda m: f"global_net.predict.{3 - int(m[1])}.{m[2]}.",
        ),
        (
            r"^globalnet\.heads\.(\d)\.1\.(\d)\.",
            lambda m: f"global_net.predict.{3 - int(m[1])}.{3 + 2 * int(m[2])}.",
        ),
        (
            r"^refinenet\.levels\.(\d)\.(\d)\.",
            lambda m: f"refine_net.cascade.{3 - int(m[1])}.{m[2]}.",
        ),
        (r"^refinenet\.final\.", "refine_net.final_predict.0."),
        (r"^refinenet\.head\.(\d)\.", lambda m: f"refine_net.final_predict.{int(m[1]) + 1}."),
    ]
)


def recognise(
    names: Collection[str],
    *,
    input_size_wh: tuple[int, int],
    batch_norm_eps: float | None = None,
) -> Recognised | None:
    """What a file with these names is; None if not pytorch-cpn's.

    Args:
        names: of all tensors.
        input_size_wh: of the crops, which the weights do not tell.
        batch_norm_eps: None for the code base's own, 1e-5.
    """
    prefix = _PREFIX if all(name.startswith(_PREFIX) for name in names) else ""
    plain = [name.removeprefix(prefix) for name in names]
    if not any(name.startswith(("global_net.", "refine_net.")) for name in plain):
        return None
    biases = sorted(n for n in plain if re.match(r"global_net\.upsamples\.\d\.1\.bias$", n))
    reverse = next((name for name in plain if name.startswith("refine_net.cascade.3.")), None)
    depth = resnet_depth(plain, r"resnet\.layer3\.(\d+)\.")
    generation = "a" if reverse else "b" if biases else "c"
    given = preprocessing(input_size_wh)
    because = ["its keys begin with 'resnet.', 'global_net.' and 'refine_net.'"]
    if reverse:
        because.append(
            f"generation (a), before 2018-07-18: {reverse!r}, so RefineNet's bottlenecks are 3, 2, "
            "1, 0 on C2 to C5"
        )
    elif biases:
        because.append(
            f"generation (b), before 2018-09-06: {biases[0]!r}, and no bottlenecks on C2"
        )
    else:
        because.append(
            "generation (c), since 2018-09-06: no bias before the sums, no bottlenecks on C2"
        )
    folded = {}
    if generation != "c":
        because.append(
            "generations (a) and (b) were trained on image / 255 without a mean, padded with black"
        )
        given = msgspec.structs.replace(given, mean=(0.0, 0.0, 0.0), fill=(0, 0, 0))
        folded = {
            f"{prefix}global_net.upsamples.{i}.1.bias": f"globalnet.merges.{2 - i}.1.running_mean"
            for i in range(3)
        }

    def name_of(key: str) -> str:
        return prefix + _NAMES(key.replace(".shortcut.", ".downsample."))

    return Recognised(
        code_base=f"pytorch-cpn, generation ({generation})",
        because=tuple(because),
        network=CPNTable(
            backbone=f"resnet{depth}",
            refine_bottlenecks=(3, 2, 1, 0) if generation == "a" else (0, 1, 2, 3),
            shortcut="projection",
            merge="batch_norm",
            upsampling="align_corners",
            concat_order="C5-C2",
            batch_norm_eps=1e-5 if batch_norm_eps is None else batch_norm_eps,
            batch_norm_momentum=0.1,
        ),
        preprocessing=given,
        decoding=DECODING,
        name_of=name_of,
        transposed=False,
        folded=folded,
        ignored=lambda name: name.endswith(".num_batches_tracked"),
    )
