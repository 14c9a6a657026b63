"""The cases after public bug reports in ../shared/cases give what their READMEs ask for.

Each kind has tests of its own, with more than these examples, beside the code that it concerns.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import posepipe

from posepipe.options import DEFAULT_POSE_MODEL

CASES = Path(__file__).parents[1] / "../shared/cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")

# Of every command in turn: its exit status, and what its output says. Commands that differ from
# others in nothing of interest are not listed.
PERFECT = (0, r"100\.0  100\.0")
DONE = (0, "")
LEARNT = (0, "the data can be learnt from")
EXPECTED: dict[str, list[tuple[int, str]]] = {
    "02-person-category-is-not-1/category-id-0-both": [PERFECT, DONE],
    "02-person-category-is-not-1/category-id-0-dets": [
        (1, "no box of 6 is of a person"),
        (1, "no box of 6 is of a person"),
        (1, "none of the 6 boxes"),
    ],
    "02-person-category-is-not-1/category-id-0-gt": [PERFECT, DONE],
    "02-person-category-is-not-1/category-id-0-res": [(1, "none of the 6 poses")],
    "05-labels-of-boxes-only/keypoints-absent": [
        (1, "labels people but no keypoints"),
        (0, "nobody has any: all boxes are taken"),
        (1, "people with labelled keypoints: 0 of 6"),
    ],
    "06-other-keypoint-order/left-right-swapped-names": [
        (1, "in another order than coco_person's: 16 of 17"),
        (1, "in another order than coco_person's: 16 of 17"),
    ],
    "06-other-keypoint-order/other-17-keypoints": [
        (1, "others than coco_person's: 17 of 17"),
        (1, "others than coco_person's: 17 of 17"),
    ],
    "07-duplicate-annotation-ids": [
        (0, r"annotation ids that are .* twice: 1 of 6 .*[\s\S]*100\.0"),
        (0, "annotation ids that are .* twice: 1 of 6"),
        (0, "annotation ids that are .* twice: 1 of 6"),
    ],
    "09-sizes-differ-from-picture/exif-raw-labels": [
        (1, "they leave out its EXIF orientation"),
        (1, "they leave out its EXIF orientation"),
    ],
    "09-sizes-differ-from-picture/size-minus1-via": [PERFECT, DONE, DONE, LEARNT],
    "09-sizes-differ-from-picture/size-swapped-dets": [
        (0, "exchanged in the file: 3 of 3"),
        (0, "exchanged in the file: 3 of 3"),
    ],
    "11-area-zero/area-zero": [
        (0, r"without a usable area: 6 of 6[\s\S]*100\.0"),
        (0, "without a usable area"),
    ],
    "13-numbers-of-another-type/category-string": [PERFECT, DONE, LEARNT],
    "13-numbers-of-another-type/dets-float-id": [DONE],
    "13-numbers-of-another-type/float-ids": [PERFECT, DONE, LEARNT],
    "13-numbers-of-another-type/iscrowd-bool": [PERFECT],
    "13-numbers-of-another-type/iscrowd-null": [PERFECT],
    "13-numbers-of-another-type/num_keypoints-float": [PERFECT],
    "13-numbers-of-another-type/res-image-id-float": [PERFECT, DONE],
    "13-numbers-of-another-type/size-float": [PERFECT],
    "13-numbers-of-another-type/size-null": [PERFECT, DONE],
    "14-string-ids/alphapose-results": [PERFECT, DONE],
    "14-string-ids/dets-string-id": [DONE],
    "14-string-ids/image-id-digitstring": [PERFECT],
    "14-string-ids/image-id-text": [(0, r"cam0_1490[\s\S]*100\.0"), (0, "cam0_1490"), LEARNT],
    "14-string-ids/res-image-id-zero-string": [PERFECT],
    "17-url-and-absolute-names/file-name-abs": [DONE, LEARNT],
    "17-url-and-absolute-names/file-name-url": [(0, "URLs are not fetched"), LEARNT],
    "18-nan-in-annotations/area-nan": [(0, r"without a usable area[\s\S]*100\.0")],
    "18-nan-in-annotations/keypoints-nan-unlabelled": [PERFECT, DONE, LEARNT],
    "25-num-keypoints-contradicts/num_keypoints-0-always": [
        (0, r"num_keypoints .*: 6 of 6[\s\S]*100\.0")
    ],
    "25-num-keypoints-contradicts/numkp17-none-visible": [
        (0, r"num_keypoints .*: 1 of 7[\s\S]*6 people[\s\S]*100\.0")
    ],
    "27-visibility-3-or-minus-1/visibility-3": [
        (0, r"visibility other than 0, 1, 2[\s\S]*100\.0"),
        (0, "visibility other than 0, 1, 2"),
        (0, "visibility other than 0, 1, 2"),
    ],
    "27-visibility-3-or-minus-1/visibility-bool": [PERFECT],
    "27-visibility-3-or-minus-1/visibility-minus1": [(0, r"visibility other[\s\S]*100\.0")],
    "29-list-with-own-ids": [
        (1, "name the annotation file that has their names with --annotations")
    ],
}


@pytest.mark.parametrize("case", EXPECTED)
def test_a_case_gives_what_is_asked_for(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "case"
    shutil.copytree(CASES / case, folder, copy_function=shutil.copyfile)
    (tmp_path / "base").symlink_to((CASES / "base").resolve())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    monkeypatch.chdir(folder)
    commands = [line for line in (folder / "cmds.sh").read_text().splitlines() if line.strip()]
    for command, (status, says) in zip(commands, EXPECTED[case], strict=False):
        # The cases name a model of the time when they were made.
        command = command.replace("cpn-mobilenetv2-small-256x192", DEFAULT_POSE_MODEL)
        name, *arguments = shlex.split(command)
        assert name == "posepipe"
        result = posepipe(*arguments)
        assert result.exit_code == status, (command, result.output)
        assert re.search(says, result.output), (command, result.output)
        assert "Traceback" not in result.output


def test_ids_by_position_are_matched_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CASES / "01-ids-by-position"
    monkeypatch.chdir(tmp_path)
    found = posepipe("detect", folder / "pics", "-o", "boxes.json")
    assert found.exit_code == 0, found.output
    scored = posepipe("eval", "boxes.json", "--annotations", folder / "gt.json")
    assert scored.exit_code == 0
    assert "images with other ids than in" in scored.output
    assert "matched by file name" in scored.output
    numbers = scored.output.rstrip().splitlines()[-1].split()
    assert float(numbers[0]) > 20, "AP was 0 by ids alone"
