"""Scenes of built-in people: who stands where, what stands before them, and from where they are seen.

World: y up, the ground at y = 0, metres. A scene is drawn by `render`, which also says for every person
what is true of them in the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.people import body
from vitpose.people import render as draw
from vitpose.people.background import background, shadow
from vitpose.people.camera import NEAREST, Camera, horizon_row
from vitpose.people.cloth import cloth_colour, cloth_pattern
from vitpose.people.figure import Figure, Part, Solids, material, pose_figure, sample_posed
from vitpose.people.suit import in_suit
from vitpose.people.visibility import keypoint_visibility
from vitpose.people.wardrobe import sample_figure

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MIN_VISIBLE_PIXELS = 80
"""A person with fewer visible pixels is left out of the picture."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person in a pose at a place: the parts, and the truth in the world."""

    solids: Solids
    keypoints: Array
    """(17, 3) in COCO's order."""
    height: float
    seated: bool


def place(figure: Figure, pose: body.Pose, position: Array, yaw: float) -> Actor:
    """`figure` taking `pose` over `position` (3,) on the ground, turned by `yaw` (0 faces +z)."""
    solids, keypoints = pose_figure(figure, pose, position, yaw)
    return Actor(solids=solids, keypoints=keypoints, height=figure.height, seated=pose.seated)


@dataclass(frozen=True, kw_only=True)
class SeenPerson:
    """The truth about one person in a picture."""

    actor: int
    """Index into the actors of the scene."""
    keypoints_image: Array
    """(17, 2)."""
    visibility: NDArray[np.uint8]
    """(17,) 0 outside the frame, 1 hidden, 2 seen."""
    mask: NDArray[np.bool_]
    """(H, W) the pixels where the person is seen."""
    bbox_xywh: Array
    """(4,) tight around the mask; a single pixel is one wide and one high."""


def things(
    ends: Sequence[tuple[Sequence[float], Sequence[float]]],
    radii: Sequence[tuple[Sequence[float], Sequence[float]]],
    surfaces: Sequence[Array],
) -> Solids:
    """Solids that belong to nobody: hulls of two upright ellipsoids each."""
    centers = np.array(ends, dtype=np.float64)
    sizes = np.array(radii, dtype=np.float64)
    count = len(centers)
    return Solids(
        centers=centers,
        axes=np.eye(3) * sizes[:, :, None, :],
        frames=np.broadcast_to(np.eye(3), (count, 3, 3)),
        bias=np.zeros(count),
        kind=np.full(count, int(Part.THING)),
        material=np.stack(surfaces),
    )


def sample_light(rng: np.random.Generator) -> draw.Light:
    """A lamp somewhere above, usually to one side."""
    direction = rng.normal((0, 1.0, 0.3), (0.8, 0.3, 0.8))
    direction[1] = abs(direction[1]) + 0.1
    ambient = rng.uniform(0.3, 0.75)
    return draw.Light(
        direction=direction / np.linalg.norm(direction),
        ambient=ambient,
        diffuse=1.25 - ambient + rng.uniform(-0.1, 0.2),
        tint=1 + rng.normal(0, 0.05, 3),
    )


def sample_actors(
    rng: np.random.Generator, count: int, difficulty: float, suit_probability: float = 0.0
) -> list[Actor]:
    """People around the origin, none standing in another; closer together as it gets harder."""
    actors: list[Actor] = []
    spots: list[Array] = []
    spread = 0.55 + 0.35 * count * (1.2 - 0.6 * difficulty)
    crowd_yaw = rng.uniform(0, 2 * np.pi)
    together = rng.random() < 0.35
    for _ in range(count):
        spot = np.zeros(3)
        for _ in range(12):
            spot[[0, 2]] = rng.uniform(-1, 1, 2) * spread * (1.0, 0.8)
            gaps = [np.linalg.norm(spot - taken) for taken in spots]
            if not gaps or min(gaps) > 0.5:
                break
        figure = sample_figure(rng)
        if suit_probability and rng.random() < suit_probability:
            figure = in_suit(rng, figure)
        yaw = crowd_yaw + rng.normal(0, 0.5) if together else rng.uniform(0, 2 * np.pi)
        pose = sample_posed(rng, figure, difficulty)
        spots.append(spot)
        actors.append(place(figure, pose, spot, float(yaw)))
    return actors


def sample_occluder(rng: np.random.Generator, camera: Camera, target: Array) -> Solids:
    """A pole, a wall, a hedge or a board between the camera and `target` (3,), or beside it."""
    toward = camera.position - target
    near = target + toward * rng.uniform(0.12, 0.4)
    near += rng.uniform(-0.5, 0.5) * camera.rotation[0]
    colour = np.clip(cloth_colour(rng), 5, 255)
    surface = material(colour, colour * 0.6, (0, 0, 0, 1, 0, 0.9), cloth_pattern(rng, colour))
    x, y, z = near
    style = rng.random()
    if style < 0.4:
        thick = rng.uniform(0.04, 0.14)
        return things([((x, -0.2, z), (x, y + 2.5, z))], [((thick,) * 3,) * 2], [surface])
    if style < 0.75:  # low and wide
        top = y - rng.uniform(0.05, 0.9)
        wide, thick = rng.uniform(0.3, 1.0), rng.uniform(0.06, 0.2)
        return things(
            [((x - wide, top - thick, z), (x + wide, top - thick, z))],
            [((thick, thick, 0.05),) * 2],
            [surface],
        )
    size = rng.uniform(0.12, 0.35, 2)
    return things([((x, y - size[1], z), (x, y + size[1], z))], [((size[0], 0.1, 0.05),) * 2], [surface])


def sample_seats(rng: np.random.Generator, actors: Sequence[Actor]) -> list[Solids]:
    """A stool or a bench under everyone who sits."""
    seats = []
    for actor in actors:
        if not actor.seated or rng.random() < 0.15:
            continue
        hips = actor.keypoints[body.L_HIP : body.R_HIP + 1].mean(axis=0)
        top = hips[1] - 0.075 * actor.height
        colour = np.clip(cloth_colour(rng), 5, 255)
        surface = material(colour, pattern=cloth_pattern(rng, colour))
        wide = rng.uniform(0.18, 0.26)
        x, _, z = hips
        ends = [((x, top - 0.06, z), (x, 0.02, z))]
        seats.append(things(ends, [((wide, 0.05, wide), (wide, 0.02, wide))], [surface]))
    return seats


def draw_people(
    camera: Camera,
    light: draw.Light,
    actors: Sequence[Actor],
    others: Sequence[Solids],
) -> tuple[draw.Drawn, list[int]] | None:
    """The map of ids, owned by indices into `actors`, and the indices of those who are in it.

    People with fewer than `MIN_VISIBLE_PIXELS` are left out, so that everyone in the picture is in the
    answer. None where there is nothing to draw.
    """
    present = [i for i, actor in enumerate(actors) if _in_front(camera, actor.keypoints)]
    while True:
        solids = [actors[i].solids for i in present] + list(others)
        if not solids:
            return None
        owner = [np.full(len(actors[i].solids.kind), i) for i in present]
        owner += [np.full(len(o.kind), -1) for o in others]
        whole = draw.concatenate(solids)
        drawn = draw.draw_ids(camera, whole, np.concatenate(owner), light.direction)
        counts = np.bincount(drawn.owners().ravel() + 1, minlength=len(actors) + 1)[1:]
        kept = [i for i in present if counts[i] >= MIN_VISIBLE_PIXELS]
        if kept == present:
            return drawn, present
        present = kept


def render(
    camera: Camera,
    light: draw.Light,
    actors: Sequence[Actor],
    others: Sequence[Solids],
    image: Image,
) -> list[SeenPerson]:
    """Draw everyone into `image` (H, W, 3), in place, and return what is seen of each."""
    result = draw_people(camera, light, actors, others)
    if result is None:
        return []
    drawn, present = result
    shadow(image, np.array([_spot(camera, actors[i].keypoints) for i in present]).reshape(-1, 5))
    draw.paint(drawn, image, light)
    owners = drawn.owners()
    answer = []
    for i in present:
        pixels, depths = camera.project(actors[i].keypoints)
        mask = owners == i
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        bbox = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        visibility = keypoint_visibility(drawn, i, actors[i].height, pixels, depths)
        answer.append(
            SeenPerson(
                actor=i,
                keypoints_image=pixels,
                visibility=visibility,
                mask=mask,
                bbox_xywh=np.array(bbox, dtype=np.float64),
            )
        )
    return answer


def _in_front(camera: Camera, points: Array) -> bool:
    """Whether a person is wholly before the camera: one that it would cut is left out."""
    return bool(camera.to_camera(points)[:, 2].min() > NEAREST + 0.3)


def _spot(camera: Camera, points: Array) -> tuple[float, float, float, float, float]:
    """The shadow under a person: an ellipse on the ground."""
    foot = points.mean(axis=0)
    foot[1] = 0.0
    reach = 0.15 + 0.6 * float(np.ptp(points[:, [0, 2]], axis=0).mean())
    edge = foot + reach * np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    (at, across, deep), depth = camera.project(edge)
    if depth.min() < NEAREST:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    return at[0], at[1], abs(across[0] - at[0]), abs(deep[1] - at[1]) + 1.0, 0.55


def sample_background(rng: np.random.Generator, camera: Camera, clutter: float) -> Image:
    """A place for the camera to look at."""
    return background(rng, camera.image_wh, horizon_row(camera), clutter)
