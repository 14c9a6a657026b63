"""Outputs are held by one process, and a place that takes no files is told from a held one."""

from __future__ import annotations

from pathlib import Path

import pytest

from posepipe.errors import DocumentError
from posepipe.io.locks import output_held


def test_an_output_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "a.json"
    with (
        output_held(output),
        pytest.raises(DocumentError, match=r"another process is writing .*a\.json"),
        output_held(output),
    ):
        pass
    with output_held(output):  # given up by then
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc to be refused by")
def test_a_place_that_takes_no_files_is_not_said_to_be_held() -> None:
    with (
        pytest.raises(DocumentError, match=r"^/proc/self/a\.json cannot be written: "),
        output_held(Path("/proc/self/a.json")),
    ):
        pass
