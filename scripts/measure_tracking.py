"""Measures tracking and smoothing on synthetic videos whose truth is known.

    python scripts/measure_tracking.py person_keypoints_val2017.json

Labelled people of COCO walk through videos of 20 s at 25 frames a second: they cross, leave and
come back, and hide each other. Where they are found is the truth with noise, misses and low scores
while they are hidden; no network takes part. Where the package `trackers` is installed, its
ByteTrack goes over the same boxes. IDF1 is that of Ristani et al. 2016: the share of
boxes whose person has the one number that fits best over the whole video.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from scipy.optimize import linear_sum_assignment

from posepipe.core.boxes import iou
from posepipe.core.poses import Poses
from posepipe.io.coco import read_annotations
from posepipe.tracking.smoothing import Smoother, SmoothingOptions
from posepipe.tracking.tracker import Tracker, TrackingOptions

FPS, SECONDS, PEOPLE, HEIGHT = 25, 20, 6, 160.0
VIDEOS = 10
Numbering = Callable[[Poses, float], np.ndarray]


def shapes(path: str) -> list[np.ndarray]:
    """(K, 3) poses of people with most keypoints labelled, scaled to boxes 160 pixels high."""
    people = read_annotations(path).people
    chosen = []
    for box, points in zip(people.boxes_xywh, people.keypoints, strict=True):
        if (points[:, 2] > 0).sum() >= 14 and box[3] > 80:
            scaled = (points[:, :2] - box[:2]) * HEIGHT / box[3]
            sure = np.where(points[:, 2:] > 0, 0.8, 0.05)
            chosen.append(np.concatenate([scaled, sure], axis=1))
    return chosen


def video(given: list[np.ndarray], seed: int) -> list[tuple[Poses, np.ndarray]]:
    """Frame by frame what is found, and which person each pose is of."""
    random = np.random.default_rng(seed)
    picks = random.choice(len(given), PEOPLE)
    width = 60.0
    speeds = random.uniform(60, 160, PEOPLE) * random.choice([-1, 1], PEOPLE)
    starts, rows = random.uniform(0, 900, PEOPLE), random.uniform(200, 260, PEOPLE)
    away = random.uniform(3, SECONDS - 3, PEOPLE)  # everybody is gone for a second once
    frames = []
    for number in range(FPS * SECONDS):
        seconds = number / FPS
        phase = (starts + speeds * seconds) % 1800
        x = np.where(phase > 900, 1800 - phase, phase)  # back and forth through the image
        y = rows + 8 * np.sin(2 * seconds + starts)
        truth = np.stack([x, y, x + width, y + HEIGHT], axis=1)
        here = np.flatnonzero((np.abs(seconds - away) > 0.5) & (random.random(PEOPLE) > 0.04))
        overlaps = iou(truth, truth)
        hidden = [max([overlaps[p, q] for q in here if rows[q] > rows[p]], default=0) for p in here]
        here, hidden = here[np.array(hidden) < 0.85], np.array(hidden)[np.array(hidden) < 0.85]
        boxes = truth[here] + random.normal(0, 0.02 * HEIGHT, (len(here), 4))
        keypoints = np.array([given[picks[p]] + [x[p], y[p], 0] for p in here]).reshape(-1, 17, 3)
        keypoints[..., :2] += random.normal(0, 0.015 * HEIGHT, keypoints[..., :2].shape)
        scores = np.clip(0.9 - 0.8 * hidden + random.normal(0, 0.05, len(here)), 0.05, 1)
        frames.append((Poses(number + 1, keypoints, scores, boxes, scores), here))
    return frames


def by_overlap() -> Numbering:
    """The least there is: the Hungarian method over the IoU with where everybody was last."""
    last: dict[int, tuple[np.ndarray, float]] = {}

    def number(poses: Poses, seconds: float) -> np.ndarray:
        for gone in [n for n, (_, seen) in last.items() if seconds - seen > 1.5]:
            del last[gone]
        ids = np.full(len(poses), -1)
        names = list(last)
        if names and len(poses):
            alike = iou(poses.boxes_xyxy, np.array([last[n][0] for n in names]))
            for row, column in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
                if alike[row, column] > 0.2:
                    ids[row] = names[column]
        for person in np.flatnonzero(ids < 0):
            ids[person] = number.next = number.next + 1  # type: ignore[attr-defined]
        last.update({int(n): (b, seconds) for n, b in zip(ids, poses.boxes_xyxy, strict=True)})
        return ids

    number.next = 0  # type: ignore[attr-defined]
    return number


def ours(**options: float) -> Numbering:
    """Posepipe's tracker, with options other than its defaults."""
    tracker = Tracker(TrackingOptions(**options))
    return lambda poses, seconds: tracker(poses, seconds).track_ids


def byte_track(**options: float) -> Numbering:
    """ByteTrack of the package `trackers` (Apache-2.0), which only sees boxes."""
    import supervision
    import trackers

    tracker = trackers.ByteTrackTracker(frame_rate=FPS, **options)

    def number(poses: Poses, seconds: float) -> np.ndarray:
        found = tracker.update(
            supervision.Detections(
                xyxy=poses.boxes_xyxy.astype(np.float32),
                confidence=poses.box_scores.astype(np.float32),
                data={"place": np.arange(len(poses))},
            )
        )
        ids = np.full(len(poses), -1)
        if len(found):
            ids[np.asarray(found.data["place"], int)] = found.tracker_id
        return ids + (ids >= 0)  # its numbers begin at 0, ours at 1

    return number


def judge(frames: list[tuple[Poses, np.ndarray]], number: Numbering) -> tuple[float, int]:
    """IDF1 in percent, and how often a person's number changes."""
    pairs, boxes, numbered, switches = {}, 0, 0, 0
    before: dict[int, int] = {}
    for place, (poses, people) in enumerate(frames):
        ids = number(poses, place / FPS)
        boxes += len(people)
        for person, one in zip(people.tolist(), ids.tolist(), strict=True):
            if one < 1:
                continue
            numbered += 1
            pairs[person, one] = pairs.get((person, one), 0) + 1
            switches += before.get(person, one) != one
            before[person] = one
    table = np.zeros((PEOPLE, 1 + max(one for _, one in pairs)))
    for (person, one), count in pairs.items():
        table[person, one] = count
    agreed = table[linear_sum_assignment(table, maximize=True)].sum()
    return 200 * agreed / (boxes + numbered), switches


def walk(shape: np.ndarray, speed: float, swing: float, turn: bool) -> np.ndarray:
    """(n, K, 3) where somebody is who walks for 12 s.

    Args:
        shape: (K, 3) of the person.
        speed: heights a second.
        swing: heights by which hands and feet swing to either side; elbows and knees, half of it.
        turn: whether they turn round every 3 s.
    """
    times = np.arange(12 * FPS) / FPS
    way = np.abs((times + 1) % 6 - 3) if turn else times
    reach = np.zeros(17)
    reach[[7, 9, 14, 16]], reach[[8, 10, 13, 15]] = [0.5, 1, 0.5, 1], [-0.5, -1, -0.5, -1]
    points = np.repeat(shape[None], len(times), axis=0)
    points[..., 0] += HEIGHT * (speed * way + swing * reach[:, None] * np.sin(5.7 * times)).T
    return points


def steadiness(shape: np.ndarray) -> None:
    """How much keypoints tremble, are off and lag, before and after smoothing."""
    random = np.random.default_rng(0)
    for name, speed, swing, turn in (
        ("stands", 0.0, 0.0, False),
        ("stands, arms and legs swing", 0.0, 0.12, False),
        ("walks, 0.5 heights a second", 0.5, 0.12, False),
        ("walks, 1 height a second", 1.0, 0.12, False),
        ("runs, 2 heights a second", 2.0, 0.12, False),
        ("walks at 1, turns round every 3 s", 1.0, 0.12, True),
    ):
        smoother = Smoother(SmoothingOptions())
        truth = walk(shape, speed, swing, turn)
        noisy, smooth = [], []
        for place, points in enumerate(truth):
            seen = points.copy()
            seen[:, :2] += random.normal(0, 0.015 * HEIGHT, seen[:, :2].shape)
            left = points[:, 0].min()
            box, one = np.array([[left, 0, left + 60, HEIGHT]]), np.ones(1)
            poses = Poses(place + 1, seen[None], one, box, one, track_ids=np.array([1]))
            noisy.append(seen[:, :2])
            smooth.append(smoother(poses, place / FPS).keypoints[0, :, :2])
        sure = shape[:, 2] > 0.5
        t, n, s = (np.array(a)[FPS:, sure, :2] for a in (truth, noisy, smooth))
        jitter = [np.linalg.norm(np.diff(a - t, 2, axis=0), axis=-1).mean() for a in (n, s)]
        error = [np.linalg.norm(a - t, axis=-1).mean() for a in (n, s)]
        lag = "" if turn or not speed else f"{1000 * (t - s)[..., 0].mean() / speed / HEIGHT:.0f}"
        print(
            f"| {name} | {jitter[0]:.2f} | {jitter[1]:.2f} | {error[0]:.2f} | {error[1]:.2f} "
            f"| {lag} |"
        )


def main() -> None:
    """Print both tables."""
    given = shapes(sys.argv[1])
    videos = [video(given, seed) for seed in range(VIDEOS)]
    print(f"{len(given)} people to choose from, {VIDEOS} videos")
    numberings: dict[str, Callable[[], Numbering]] = {
        "overlap with the last box": by_overlap,
        "posepipe --track": ours,
        "... without doubtful people": lambda: ours(doubtful=0.5),
        "... that waits 0.2 s": lambda: ours(keep=0.2),
    }
    if find_spec("trackers") is None:
        print("without ByteTrack: pip install trackers, in an environment of its own")
    else:
        same = {
            "track_activation_threshold": 0.5,
            "high_conf_det_threshold": 0.5,
            "lost_track_buffer": 45,  # of 30 frames a second
        }
        numberings |= {
            "ByteTrack": byte_track,
            "... with posepipe's thresholds and patience": lambda: byte_track(**same),
        }
    for name, make in numberings.items():
        found = [judge(frames, make()) for frames in videos]
        print(f"| {name} | {np.mean([f for f, _ in found]):.1f} | {sum(n for _, n in found)} |")
    steadiness(given[0])


if __name__ == "__main__":
    main()
