"""How the built-in people move in videos: walking through, stopping, waving, turning back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.people import body, scene
from vitpose.people.figure import Figure
from vitpose.people.suit import in_suit
from vitpose.people.wardrobe import sample_figure

Array = NDArray[np.float64]

_EDGE = 0.4
"""Seconds that stopping and setting off take."""
_TURN = 0.7
"""Seconds that turning round takes."""


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A person and what they do over the time of a video. Times are seconds, lengths metres."""

    figure: Figure
    start: Array
    """(3,) place at time 0."""
    velocity: Array
    """(3,) while moving."""
    pause: tuple[float, float]
    """When the person begins to stop and to set off again; equal for never."""
    turn_back: float
    """When the person turns round, inf for never."""
    waves: int | None
    """The side whose arm waves during the pause."""
    effort: float
    sway: Array
    """(17, 3) phases of the small motions that nobody can suppress."""

    def at(self, time: float) -> scene.Actor:
        """The person at `time`."""
        walked = time  # seconds at full speed
        moving = 1.0
        if self.pause[1] > self.pause[0]:
            stop, go = self.pause
            walked += _step_integral(time, go, _EDGE) - _step_integral(time, stop, _EDGE)
            moving = 1 - _step(time, stop, _EDGE) + _step(time, go, _EDGE)
        forth = walked - 2 * _step_integral(time, self.turn_back, _TURN)
        position = self.start + self.velocity * forth
        speed = float(np.linalg.norm(self.velocity))
        phase = 2 * np.pi * speed * walked / (0.82 * self.figure.height * (1 + self.effort))
        angles = moving * body.gait(phase, self.effort)
        idle = np.zeros((body.JOINTS, 3))
        idle[body.L_SHOULDER : body.R_SHOULDER + 1, 2] = 0.14
        idle[body.L_ELBOW : body.R_ELBOW + 1, 0] = 0.3
        angles += (1 - moving) * idle
        if self.waves is not None:
            waving = body.wave(angles, self.waves, 7.0 * time)
            angles += (1 - moving) * (waving - angles)
        angles += np.deg2rad(2.5) * np.sin(1.3 * time + self.sway)
        heading = float(np.arctan2(self.velocity[0], self.velocity[2]))
        heading += np.pi * _step(time, self.turn_back, _TURN)
        # Who stops to wave turns to the camera for it.
        facing = (heading + np.pi) % (2 * np.pi) - np.pi
        if self.waves is not None:
            facing *= moving
        pose = body.Pose(angles=body.clip_to_limits(angles))
        return scene.place(self.figure, pose, position, facing)


def _step(time: float, at: float, length: float) -> float:
    """From 0 to 1, smoothly, over `length` seconds from `at`."""
    share = float(np.clip((time - at) / length, 0, 1))
    return share * share * (3 - 2 * share)


def _step_integral(time: float, at: float, length: float) -> float:
    """The integral of `_step` up to `time`, seconds."""
    share = float(np.clip((time - at) / length, 0, 1))
    return length * (share**3 - share**4 / 2) + max(0.0, time - at - length)


def sample_walker(
    rng: np.random.Generator,
    duration: float,
    reach: float,
    lane: float,
    late: float,
    steady: bool,
    suit_probability: float = 0.0,
) -> Walker:
    """Someone who crosses the scene, `reach` metres to either side of its middle, `lane` metres nearer.

    They come into the frame about `late` seconds after the start; with `steady` they are in it all the
    time, moving little.
    """
    figure = sample_figure(rng)
    if suit_probability and rng.random() < suit_probability:
        figure = in_suit(rng, figure)
    running = rng.random() < 0.2
    speed = rng.uniform(1.9, 2.8) if running else rng.uniform(0.8, 1.4)
    side = rng.choice((-1.0, 1.0))
    angle = rng.normal(0, 0.06)
    direction = np.array((-side * np.cos(angle), 0.0, np.sin(angle)))
    if steady:
        speed *= 0.4
        start = np.array((side * rng.uniform(0, 0.5) * reach, 0.0, lane))
        pause = rng.uniform(0.1, 0.4) * duration
        stop = pause + max(0.5, rng.uniform(0.3, 0.5) * duration)
        turn = np.inf
    else:
        start = np.array((side * (reach + 0.5), 0.0, lane)) - direction * speed * late
        crossing = late + (reach + 0.5) / speed
        pauses = rng.random() < 0.5
        pause = crossing - rng.uniform(-0.2, 0.4)
        stop = pause + (rng.uniform(1.2, 2.2) if pauses else 0.0)
        turn = crossing + rng.uniform(0.8, 2.5) if rng.random() < 0.3 and not pauses else np.inf
    return Walker(
        figure=figure,
        start=start,
        velocity=direction * speed * (1.0 if figure.height > 1.4 else 0.75),
        pause=(float(pause), float(stop)),
        turn_back=float(turn),
        waves=int(rng.integers(2)) if stop > pause and rng.random() < 0.75 else None,
        effort=rng.uniform(0.6, 0.9) if running else rng.uniform(-0.15, 0.2),
        sway=rng.uniform(0, 2 * np.pi, (body.JOINTS, 3)),
    )
