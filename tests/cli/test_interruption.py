"""Ctrl-C and requests to end, sent to real processes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import error_of, photo, posepipe, smaller_detector, start

pytestmark = pytest.mark.slow

IMAGES = 10


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs that differ."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        photo(folder / f"{number}.jpg", 120 + 8 * number)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector quick enough for many images, slow enough to be interrupted among them."""
    return smaller_detector(tmp_path_factory.mktemp("models") / "detector", 384)


@pytest.fixture(scope="module")
def whole(images: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The boxes.json of a run that nobody interrupts."""
    output = tmp_path_factory.mktemp("whole") / "boxes.json"
    result = posepipe("detect", images, "-o", output, "--batch-size", 1, "--model", model)
    assert result.exit_code == 0
    return output.read_bytes()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """A process's status, stdout and lines on stderr, once it has ended."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err.splitlines()


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def interrupt_midway(process: subprocess.Popen[str], number: int, output: Path) -> Path:
    """The journal that a run leaves which gets a signal once two images are finished."""
    journal = output.with_name(f"{output.name}.journal")
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):  # a header, 2 entries
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert ended(process) == (
        130,
        "",
        [
            f"posepipe: interrupted; what is finished is kept in {journal}: the same command "
            "with --resume goes on from it"
        ],
    )
    assert 2 <= journal.read_bytes().count(b"\n") - 1 < IMAGES
    assert [path.name for path in output.parent.iterdir()] == [journal.name]
    return journal


@pytest.mark.posix
def test_an_interrupted_run_is_resumed_to_the_very_same_file(
    images: Path, model: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "boxes.json"
    command = ("detect", images, "-o", output, "--batch-size", 1, "--model", model)
    journal = interrupt_midway(start(*command), signal.SIGINT, output)

    again = posepipe(*command)
    assert "go on from it with --resume, or delete it" in error_of(again)
    other = posepipe(*command, "--resume", "--min-score", "0.4")
    assert "settings.min_score was 0.35, is 0.4" in error_of(other)
    assert not output.exists()

    resumed = posepipe(*command, "--resume")
    assert (resumed.exit_code, resumed.output) == (0, "")
    assert output.read_bytes() == whole
    assert not journal.exists()


def test_resuming_where_nothing_was_interrupted_begins_anew(person: Path, tmp_path: Path) -> None:
    plain, resumed = tmp_path / "plain.json", tmp_path / "resumed.json"
    assert posepipe("pose", person, "-o", plain).exit_code == 0
    assert posepipe("pose", person, "-o", resumed, "--resume").exit_code == 0
    assert plain.read_bytes() == resumed.read_bytes()


def test_a_damaged_journal_is_an_error(person: Path, tmp_path: Path) -> None:
    (tmp_path / "kps.json.journal").write_text("not a journal\n", encoding="utf-8")
    line = error_of(posepipe("pose", person, "-o", tmp_path / "kps.json", "--resume"))
    assert "kps.json.journal is damaged in its first line" in line


# A detector without a network: everything around it is as ever, and torch is not imported.
SLEEPY = """
import time
from types import SimpleNamespace
from posepipe.cli import detect
from posepipe.core.boxes import Detections
from posepipe.io.records import made_by

class Sleepy:
    batch_size = 1
    device = "cpu"
    settings = SimpleNamespace(category="person")

    def made_by(self, command):
        print("loading", flush=True)
        time.sleep({loading})
        return made_by(command)

    @property
    def detection_stage(self):
        return self

    def prepare(self, item):
        return item

    def weight(self, ready):
        return 1

    def __call__(self, batch):
        time.sleep(0.3)
        return [Detections(item.id, [], []) for item in batch]

detect.pipeline_of = lambda options, detection: Sleepy()
from posepipe.cli.main import main
main()
"""


@pytest.mark.posix
def test_a_request_to_end_is_an_interruption_too(images: Path, tmp_path: Path) -> None:
    python = ("-c", SLEEPY.format(loading=0))
    process = start("detect", images, "-o", tmp_path / "boxes.json", python=python)
    wait_for_line(process, "loading")
    interrupt_midway(process, signal.SIGTERM, tmp_path / "boxes.json")


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interruption_while_models_load_is_one_line(
    number: int, images: Path, tmp_path: Path
) -> None:
    python = ("-c", SLEEPY.format(loading=60))
    process = start("detect", images, "-o", tmp_path / "out.json", python=python)
    wait_for_line(process, "loading")
    process.send_signal(number)
    assert ended(process) == (130, "", ["posepipe: interrupted"])
    assert not list(tmp_path.iterdir())


STUCK = """
import time
from posepipe.io.images import ImageFile

def read_slowly(self):
    print("reading", flush=True)
    time.sleep(60)

ImageFile.read = read_slowly
from posepipe.cli.main import main
main()
"""


@pytest.mark.posix
def test_a_second_ctrl_c_ends_at_once_and_without_a_traceback(person: Path, tmp_path: Path) -> None:
    process = start("draw", person, "-o", tmp_path / "drawn", python=("-c", STUCK))
    wait_for_line(process, "reading")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # now it waits for the thread that reads
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    status, _, said = ended(process)
    assert status == 130
    assert said in ([], ["posepipe: interrupted"])
    assert time.monotonic() - begun < 30


def test_handlers_of_signals_are_put_back(person: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert posepipe("draw", person, "-o", tmp_path / "drawn").exit_code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.posix
def test_a_reader_that_goes_away_early_is_no_traceback(work: Path, tmp_path: Path) -> None:
    process = start("draw", work / "boxes.json", "-o", tmp_path / "drawn")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head` does
    said = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert said == ""
