"""Scenes of built-in people: who stands where, what stands before them, and from where they are seen.

World: y up, the ground at y = 0, metres. A scene is drawn by `render`, which also says for every person
what is true of them in the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitpose.data import people_body as body
from vitpose.data import people_render as draw
from vitpose.data.people_background import background, shadow
from vitpose.data.people_figure import Figure, Part, Solids, pose_figure, sample_posed
from vitpose.data.people_wardrobe import cloth_colour, cloth_pattern, sample_figure
from vitpose.data.people_figure import material

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MIN_VISIBLE_PIXELS = 80
"""A person of whom less than this is seen is taken out of the picture."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A figure in a pose at a place on the ground."""

    figure: Figure
    pose: body.Pose
    position: Array
    yaw: float


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
    rng: np.random.Generator, count: int, difficulty: float
) -> list[Actor]:
    """People around the origin, none standing in another; closer together as it gets harder."""
    actors: list[Actor] = []
    spread = 0.55 + 0.35 * count * (1.2 - 0.6 * difficulty)
    crowd_yaw = rng.uniform(0, 2 * np.pi)
    together = rng.random() < 0.35
    for _ in range(count):
        place = np.zeros(3)
        for _ in range(12):
            place[[0, 2]] = rng.uniform(-1, 1, 2) * spread * (1.0, 0.8)
            gaps = [np.linalg.norm(place - other.position) for other in actors]
            if not gaps or min(gaps) > 0.5:
                break
        figure = sample_figure(rng)
        yaw = crowd_yaw + rng.normal(0, 0.5) if together else rng.uniform(0, 2 * np.pi)
        pose = sample_posed(rng, figure, difficulty)
        actors.append(Actor(figure=figure, pose=pose, position=place.copy(), yaw=float(yaw)))
    return actors


def sample_camera(
    rng: np.random.Generator,
    points: Array,
    image_wh: tuple[int, int],
    closeness: float,
    difficulty: float,
) -> draw.Camera:
    """A camera that looks at `points` (N, 3) from the front side of the world.

    The points fill `closeness` of the image (its height or its width, whichever is tighter); over 1 they
    are cut by the frame. Heights run from the knee to high above.
    """
    wide, high = image_wh
    focal = wide / (2 * np.tan(np.deg2rad(rng.uniform(28, 62)) / 2))
    low, top = points.min(axis=0), points.max(axis=0)
    middle, size = (low + top) / 2, np.maximum(top - low, 0.4)
    distance = max(focal * size[1] / (closeness * high), focal * size[0] / (closeness * wide))
    distance = max(distance, 1.2) + size[2] / 2
    style = rng.random()
    if style < 0.62:
        elevation = rng.normal(0.06, 0.08)
    elif style < 0.9:
        elevation = rng.uniform(0.2, 0.75)
    else:
        elevation = rng.uniform(-0.2, 0.0)
    offset = np.array([0, np.sin(elevation), np.cos(elevation)]) * distance
    position = middle + offset
    position[1] = max(position[1], 0.15)
    slack = max(0.05, 0.5 * (1 - closeness)) if closeness < 1 else 0.12 * closeness
    target = middle + rng.uniform(-1, 1, 3) * slack * (wide, high, 0) * distance / focal * 0.8
    roll = rng.normal(0, 0.03 + 0.06 * difficulty)
    return draw.look_at(position, target, focal, roll, image_wh)


def sample_occluder(rng: np.random.Generator, camera: draw.Camera, target: Array) -> Solids:
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
        if not actor.pose.seated or rng.random() < 0.15:
            continue
        _, points = pose_figure(actor.figure, actor.pose, actor.position, actor.yaw)
        hips = points[body.L_HIP : body.R_HIP + 1].mean(axis=0)
        top = hips[1] - 0.075 * actor.figure.height
        colour = np.clip(cloth_colour(rng), 5, 255)
        surface = material(colour, pattern=cloth_pattern(rng, colour))
        wide = rng.uniform(0.18, 0.26)
        x, _, z = hips
        ends = [((x, top - 0.06, z), (x, 0.02, z))]
        seats.append(things(ends, [((wide, 0.05, wide), (wide, 0.02, wide))], [surface]))
    return seats


def horizon_row(camera: draw.Camera) -> float:
    """Row of the image where level ground ends."""
    forward = camera.rotation[2].copy()
    forward[1] = 0
    length = np.linalg.norm(forward)
    if length < 1e-6:
        return 0.0
    far = camera.position + forward / length * 1e4
    far[1] = 0.0
    return float(camera.project(far)[0][1])


def render(
    camera: draw.Camera,
    light: draw.Light,
    actors: Sequence[Actor],
    others: Sequence[Solids],
    image: Image,
) -> list[SeenPerson]:
    """Draws everyone into `image` (H, W, 3), in place, and says what is seen of each.

    People of whom fewer than `MIN_VISIBLE_PIXELS` are seen are left out: nobody is in the picture
    without being in the answer.
    """
    posed = [pose_figure(a.figure, a.pose, a.position, a.yaw) for a in actors]
    present = [i for i, (_, points) in enumerate(posed) if _in_front(camera, points)]
    while True:
        solids = [posed[i][0] for i in present] + list(others)
        if not solids:
            return []
        owner = [np.full(len(posed[i][0].kind), i) for i in present]
        owner += [np.full(len(o.kind), -1) for o in others]
        drawn = draw.draw_ids(
            camera, draw.concatenate(solids), np.concatenate(owner), light.direction
        )
        owners = drawn.owners()
        seen = np.bincount(owners.ravel() + 1, minlength=len(actors) + 1)[1:]
        kept = [i for i in present if seen[i] >= MIN_VISIBLE_PIXELS]
        if kept == present:
            break
        present = kept
    shadow(image, np.array([_spot(camera, posed[i][1]) for i in present]).reshape(-1, 5))
    draw.paint(drawn, image, light)
    answer = []
    for i in present:
        pixels, depths = camera.project(posed[i][1])
        mask = owners == i
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        bbox = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        height = actors[i].figure.height
        answer.append(
            SeenPerson(
                actor=i,
                keypoints_image=pixels,
                visibility=draw.keypoint_visibility(drawn, i, height, pixels, depths),
                mask=mask,
                bbox_xywh=np.array(bbox, dtype=np.float64),
            )
        )
    return answer


def _in_front(camera: draw.Camera, points: Array) -> bool:
    """Whether a person is wholly before the camera: one that it would cut is left out."""
    return bool(camera.to_camera(points)[:, 2].min() > draw.NEAREST + 0.3)


def _spot(camera: draw.Camera, points: Array) -> tuple[float, float, float, float, float]:
    """The shadow under a person: an ellipse on the ground."""
    foot = points.mean(axis=0)
    foot[1] = 0.0
    reach = 0.15 + 0.6 * float(np.ptp(points[:, [0, 2]], axis=0).mean())
    edge = foot + reach * np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    (at, across, deep), depth = camera.project(edge)
    if depth.min() < draw.NEAREST:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    return at[0], at[1], abs(across[0] - at[0]), abs(deep[1] - at[1]) + 1.0, 0.55


def sample_background(
    rng: np.random.Generator, camera: draw.Camera, clutter: float
) -> Image:
    """A place for the camera to look at."""
    return background(rng, camera.image_wh, horizon_row(camera), clutter)
