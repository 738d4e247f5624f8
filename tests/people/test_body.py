"""The body of the built-in people: kinematics, limits and proportions."""

import numpy as np
import pytest

from vitpose.people import body
from vitpose.people.figure import pose_figure, sample_posed
from vitpose.people.wardrobe import sample_figure


@pytest.fixture
def figure():
    return sample_figure(np.random.default_rng(4))


def posed(figure, angles, yaw=0.0):
    return pose_figure(figure, body.Pose(angles=angles), np.zeros(3), yaw)[1]


def test_at_rest_a_person_stands_upright_with_left_on_x(figure):
    points = posed(figure, np.zeros((17, 3)))
    assert (points[[1, 3, 5, 7, 9, 11, 13, 15], 0] > 0).all()
    assert (points[[2, 4, 6, 8, 10, 12, 14, 16], 0] < 0).all()
    assert points[0, 2] > points[3, 2]  # the nose is before the ears
    assert points[0, 1] > points[5, 1] > points[11, 1] > points[13, 1] > points[15, 1] > 0


def test_bones_keep_their_length_in_every_pose(figure):
    rng = np.random.default_rng(0)
    bones = [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (11, 12)]
    rest = posed(figure, np.zeros((17, 3)))
    for _ in range(20):
        moved = posed(figure, sample_posed(rng, figure, 1.0).angles, rng.uniform(0, 6))
        for a, b in bones:
            assert np.linalg.norm(moved[a] - moved[b]) == pytest.approx(np.linalg.norm(rest[a] - rest[b]))


@pytest.mark.parametrize(
    ("joint", "degrees", "keypoint", "direction"),
    [
        (body.L_HIP, (90, 0, 0), 13, (0, 0, 1)),
        (body.R_HIP, (90, 0, 0), 14, (0, 0, 1)),
        (body.L_SHOULDER, (0, 0, 90), 7, (1, 0, 0)),
        (body.R_SHOULDER, (0, 0, 90), 8, (-1, 0, 0)),
        (body.R_SHOULDER, (170, 0, 0), 8, (0, 1, 0)),
        (body.L_KNEE, (90, 0, 0), 15, (0, 0, -1)),
        (body.R_ELBOW, (90, 0, 0), 10, (0, 0, 1)),
    ],
)
def test_joints_bend_the_way_people_do(figure, joint, degrees, keypoint, direction):
    angles = np.zeros((17, 3))
    angles[joint] = np.deg2rad(degrees)
    points = posed(figure, angles)
    bone = points[keypoint] - points[joint]
    assert bone @ direction > 0.95 * np.linalg.norm(bone)


def test_swapped_pose_is_the_mirror_image(figure):
    rng = np.random.default_rng(1)
    angles = sample_posed(rng, figure, 1.0).angles
    swap = [0, 1, 2, 3, 4, *(i for k in range(5, 17, 2) for i in (k + 1, k))]
    mirrored = angles[swap]
    mirrored[:5] *= (1, -1, -1)
    flip = [0, 2, 1, 4, 3, *swap[5:]]
    expected = posed(figure, angles)[flip] * (-1, 1, 1)
    np.testing.assert_allclose(posed(figure, mirrored), expected, atol=1e-9)


def test_sampled_poses_keep_the_joint_limits_and_the_ground(figure):
    rng = np.random.default_rng(2)
    for _ in range(100):
        pose = sample_posed(rng, figure, 0.7)
        assert (pose.angles >= body.LIMITS[..., 0] - 1e-12).all()
        assert (pose.angles <= body.LIMITS[..., 1] + 1e-12).all()
        solids, points = pose_figure(figure, pose, np.zeros(3), 0.0)
        assert points[:, 1].min() > -0.05
        assert solids.centers[..., 1].min() < pose.airborne + 0.2


def test_figures_are_dressed_alike_on_both_sides():
    for seed in range(20):
        figure = sample_figure(np.random.default_rng(seed))
        for left in range(16, 28, 2):
            rows = [figure.material[figure.kind == kind] for kind in (left, left + 1)]
            np.testing.assert_array_equal(rows[0], rows[1])


def test_walking_is_periodic_and_its_halves_are_mirrored():
    np.testing.assert_allclose(body.gait(0.3, 0.2), body.gait(0.3 + 2 * np.pi, 0.2), atol=1e-12)
    ahead = body.gait(0.3 + np.pi, 0.2)
    np.testing.assert_allclose(body.gait(0.3, 0.2)[5::2], ahead[6::2], atol=1e-12)
