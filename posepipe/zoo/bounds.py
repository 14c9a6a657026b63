"""How large the numbers of recipes may be: every field has bounds, and none takes NaN.

So a recipe with a slip, or from a stranger, is one line and never a run of a thousand years or an
allocation of terabytes. These are the outermost bounds; its table says what else a field demands.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Number = Annotated[float, Meta(ge=-1e6, le=1e6)]
Whole = Annotated[int, Meta(ge=-1_000, le=1_000)]
Large = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
Samples = Annotated[int, Meta(ge=-(10**12), le=10**12)]

Share = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(ge=1e-6, le=1e6)]
Epsilon = Annotated[float, Meta(ge=1e-12, le=1)]
Deviation = Annotated[float, Meta(ge=1e-4, le=1e4)]
Level = Annotated[int, Meta(ge=0, le=255)]
Count = Annotated[int, Meta(ge=1, le=1_000)]
Channels = Annotated[int, Meta(ge=1, le=2_048)]  # 151 MB for one convolution of 3x3 at most
Classes = Annotated[int, Meta(ge=2, le=10_000)]
Boxes = Annotated[int, Meta(ge=1, le=100_000)]
