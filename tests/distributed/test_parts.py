"""What a distributed run has finished: kept, compared, read back in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import poses

from posepipe.core.poses import Poses
from posepipe.errors import DocumentError
from posepipe.io.checked_lines import encode_line
from posepipe.io.records import made_by
from posepipe.io.shards import Header, ShardEntry

pytest.importorskip("pyarrow")
from posepipe.distributed.parts import Parts  # needs pyarrow


def header(images: int, **settings: Any) -> Header:
    return Header(
        number=1,
        of=1,
        kind="poses",
        images=images,
        root="/pictures",
        category="person",
        made_by=made_by("run"),
        fingerprint={"settings": settings},
    )


def row(position: int) -> dict[str, Any]:
    entry = ShardEntry(
        position=position, image_id=position + 1, file_name="a.jpg", result=poses(position + 1, 2)
    )
    line = encode_line(entry)[:-1]
    return {"position": position, "people": 2, "skipped": "", "line": line}


def test_images_come_back_in_order_whatever_the_order_of_the_parts(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(50).tolist()
    with Parts(tmp_path / "kps.json", header(50), resume=False) as parts:
        for start in range(0, 50, 7):
            parts.append([row(position) for position in order[start : start + 7]])
        parts.append([row(3)])  # done twice, as may happen when a worker dies
        entries = list(parts.entries(Poses))
        assert [entry.position for entry in entries] == list(range(50))
        assert [len(entry.result or ()) for entry in entries] == [2] * 50
        assert (tmp_path / "kps.json.parts").is_dir()
        parts.remove()
    assert not (tmp_path / "kps.json.parts").exists()


def test_a_run_is_resumed_and_no_other_takes_it_up(tmp_path: Path) -> None:
    output = tmp_path / "kps.json"
    with Parts(output, header(5, flip=True), resume=True) as parts:
        assert parts.done.tolist() == []
        parts.append([row(4), row(1)])
        with pytest.raises(DocumentError, match="lacks images: go on with --resume"):
            list(parts.entries(Poses))
        with pytest.raises(DocumentError, match="another run is writing"):
            Parts(output, header(5, flip=True), resume=True)
    with pytest.raises(DocumentError, match=r"continue it with --resume, or delete it"):
        Parts(output, header(5, flip=True), resume=False)
    with pytest.raises(DocumentError, match=r"settings.flip was True, is False"):
        Parts(output, header(5, flip=False), resume=True)
    with Parts(output, header(5, flip=True), resume=True) as parts:
        assert parts.done.tolist() == [1, 4]


def test_damage_is_named(tmp_path: Path) -> None:
    with Parts(tmp_path / "kps.json", header(2), resume=False) as parts:
        parts.append([row(0), {**row(1), "line": b"00000000 {}"}])
        with pytest.raises(DocumentError, match=r"part-000000.parquet is damaged"):
            list(parts.entries(Poses))
    (tmp_path / "kps.json.parts" / "part-000000.parquet").write_bytes(b"no Parquet")
    with pytest.raises(DocumentError, match=r"part-000000.parquet cannot be read"):
        Parts(tmp_path / "kps.json", header(2), resume=True)
