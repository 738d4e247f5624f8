"""The codec against plain computations of its published definitions."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitpose.heatmap import INVALID, blur_sigma_of, decode, encode, flip_back

WIDTH, HEIGHT = 48, 64


def decoded_plainly(
    heatmap: NDArray[np.float64], kernel: int = 11, sigma: float = 0
) -> tuple[NDArray[np.float64], float]:
    """UDP/DARK of the official code, one map at a time, in float64: blur whole, log, one step."""
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    score = heatmap[y, x]
    if score <= 0:
        return np.array([-1.0, -1.0]), score
    blurred = cv2.GaussianBlur(heatmap, (kernel, kernel), sigma)
    log = np.pad(np.log(np.clip(blurred, 0.001, 50)), 1, mode="edge")

    def c(dx: int, dy: int) -> float:
        return log[y + 1 + dy, x + 1 + dx]

    gradient = np.array([c(1, 0) - c(-1, 0), c(0, 1) - c(0, -1)]) / 2
    dxx, dyy = c(1, 0) - 2 * c(0, 0) + c(-1, 0), c(0, 1) - 2 * c(0, 0) + c(0, -1)
    dxy = (c(1, 1) - c(1, 0) - c(0, 1) + 2 * c(0, 0) - c(-1, 0) - c(0, -1) + c(-1, -1)) / 2
    hessian = np.array([[dxx, dxy], [dxy, dyy]]) + np.finfo(np.float32).eps * np.eye(2)
    return np.array([x, y]) - np.linalg.inv(hessian) @ gradient, score


def blobs(rng: np.random.Generator, count: int, *, margin: float, peaks: int) -> NDArray[np.float32]:
    """(count, HEIGHT, WIDTH) noisy Gaussians of several widths and heights."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    maps = rng.normal(0, 0.004, (count, HEIGHT, WIDTH))
    for _ in range(peaks):
        at = rng.uniform(-margin, [WIDTH - 1 + margin, HEIGHT - 1 + margin], (count, 2))
        sigma, height = rng.uniform(1.2, 3.5, count), rng.uniform(0.1, 1.2, count)
        squared = (xs - at[:, :1, None]) ** 2 + (ys - at[:, 1:, None]) ** 2
        maps += height[:, None, None] * np.exp(-squared / (2 * sigma**2)[:, None, None])
    return maps.astype(np.float32)


def test_decode_is_the_published_definition_on_ten_thousand_maps() -> None:
    rng = np.random.default_rng(0)
    maps = np.concatenate(
        [
            blobs(rng, 4000, margin=-3, peaks=1),
            blobs(rng, 3000, margin=3, peaks=1),  # at and beyond the borders
            blobs(rng, 2000, margin=0, peaks=2),
            blobs(rng, 500, margin=-3, peaks=1) - 2,  # negative throughout
            rng.uniform(0.2, 1, (500, HEIGHT, WIDTH)).astype(np.float32),  # maxima anywhere
        ]
    ).reshape(100, 100, HEIGHT, WIDTH)
    before = maps.copy()
    keypoints, scores = decode(maps)
    assert (maps == before).all()
    plain = [decoded_plainly(m.astype(np.float64)) for m in maps.reshape(-1, HEIGHT, WIDTH)]
    expected = np.stack([position for position, _ in plain])
    assert (scores.reshape(-1) == np.array([score for _, score in plain], np.float32)).all()
    assert np.abs(keypoints.reshape(-1, 2) - expected).max() < 1e-4
    assert (keypoints[90:95] == INVALID).all()


@pytest.mark.parametrize("x", [0, 1, WIDTH // 2, WIDTH - 2, WIDTH - 1])
@pytest.mark.parametrize("y", [0, 1, HEIGHT // 2, HEIGHT - 2, HEIGHT - 1])
def test_decode_holds_on_every_border_and_corner(x: int, y: int) -> None:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    heatmap = np.exp(-((xs - x - 0.3) ** 2 + (ys - y + 0.2) ** 2) / 8).astype(np.float32)
    keypoints, _ = decode(heatmap[None, None])
    expected, _ = decoded_plainly(heatmap.astype(np.float64))
    assert keypoints[0, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("kernel", "sigma"), [(17, None), (13, None), (11, 0.8), (3, 0.8), (1, None)])
def test_decode_takes_another_blur(kernel: int, sigma: float | None) -> None:
    """OpenCV chooses sigma for a kernel above 9 as `blur_sigma_of` does; smaller ones have a table."""
    maps = blobs(np.random.default_rng(3), 300, margin=1, peaks=1)
    keypoints, _ = decode(maps[:, None], kernel, sigma)
    expected = [decoded_plainly(m.astype(np.float64), kernel, sigma or 0)[0] for m in maps]
    assert keypoints[:, 0] == pytest.approx(np.stack(expected), abs=1e-4)
    assert blur_sigma_of(11) == 2.0


def test_decode_holds_on_maps_smaller_than_the_blur() -> None:
    rng = np.random.default_rng(4)
    for height, width in ((8, 6), (12, 40), (40, 12), (13, 13), (1, 1)):
        maps = rng.uniform(0.1, 1, (20, 1, height, width)).astype(np.float32)
        expected = [decoded_plainly(m[0].astype(np.float64))[0] for m in maps]
        assert decode(maps)[0][:, 0] == pytest.approx(np.stack(expected), abs=1e-4), (height, width)


def test_a_map_is_decoded_to_the_bit_as_it_is_alone() -> None:
    maps = blobs(np.random.default_rng(5), 300, margin=2, peaks=1).reshape(50, 6, HEIGHT, WIDTH)
    together = decode(maps)[0]
    for n in range(50):
        assert (decode(maps[n : n + 1])[0][0] == together[n]).all()


def test_a_blur_that_is_none_is_refused() -> None:
    maps = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    for kernel in (0, 10, -1):
        with pytest.raises(ValueError, match=f"must be odd .* got {kernel}"):
            decode(maps, kernel)
    with pytest.raises(ValueError, match="sigma must be greater than 0"):
        decode(maps, 11, 0.0)


def test_a_flat_map_stays_at_its_first_pixel() -> None:
    keypoints, scores = decode(np.full((1, 1, HEIGHT, WIDTH), 0.5, np.float32))
    assert keypoints[0, 0].tolist() == [0, 0]
    assert scores[0, 0] == 0.5


def test_a_map_without_a_positive_value_is_invalid() -> None:
    keypoints, scores = decode(np.zeros((1, 2, HEIGHT, WIDTH), np.float32))
    assert (keypoints == INVALID).all()
    assert (scores == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    maps = np.zeros((2, 3, HEIGHT, WIDTH), np.float32)
    maps[1, 2, 5, 5] = value
    with pytest.raises(ValueError, match="heatmap 2 of crop 1"):
        decode(maps)


def test_decode_takes_no_maps_and_refuses_other_shapes() -> None:
    assert decode(np.zeros((0, 17, HEIGHT, WIDTH), np.float32))[0].shape == (0, 17, 2)
    with pytest.raises(ValueError, match="N, K, H, W"):
        decode(np.zeros((17, HEIGHT, WIDTH), np.float32))


def test_encode_is_the_published_target() -> None:
    rng = np.random.default_rng(1)
    keypoints = rng.uniform([-12, -12], [WIDTH + 11, HEIGHT + 11], (6, 17, 2)).astype(np.float32)
    visibility = rng.integers(0, 3, (6, 17))
    heatmaps, weights = encode(torch.tensor(keypoints), torch.tensor(visibility), (WIDTH, HEIGHT))
    for b in range(6):
        for k in range(17):
            (mu_x, mu_y), target = keypoints[b, k].astype(float), np.zeros((HEIGHT, WIDTH))
            left, top = int(np.floor(mu_x + 0.5)) - 6, int(np.floor(mu_y + 0.5)) - 6
            touches = left < WIDTH and top < HEIGHT and left + 13 > 0 and top + 13 > 0
            weight = float(visibility[b, k] > 0 and touches)
            if weight:
                for y in range(max(0, top), min(HEIGHT, top + 13)):
                    for x in range(max(0, left), min(WIDTH, left + 13)):
                        squared = (x - mu_x) ** 2 + (y - mu_y) ** 2
                        target[y, x] = np.exp(-squared / (2 * 2.0**2))
            assert weights[b, k] == weight
            assert heatmaps[b, k].numpy() == pytest.approx(target, abs=1e-5)


@pytest.mark.parametrize(("border", "error"), [(5, 0.05), (6, 1e-4)])
def test_decode_inverts_encode_inside_the_map(border: int, error: float) -> None:
    """Nearer to the border the published blur mirrors a Gaussian that is cut off, and errs by more."""
    rng = np.random.default_rng(2)
    keypoints = rng.uniform(border, [WIDTH - 1 - border, HEIGHT - 1 - border], (40, 17, 2))
    heatmaps, _ = encode(torch.tensor(keypoints), torch.full((40, 17), 2), (WIDTH, HEIGHT))
    assert np.abs(decode(heatmaps.numpy())[0] - keypoints).max() < error


def test_flip_back_is_the_mirror_of_position_and_side() -> None:
    keypoints = torch.tensor([[[10.25, 20.5], [30.75, 41.0], [5.0, 60.0]]])
    seen = torch.full((1, 3), 2)
    mirrored = keypoints[:, [1, 0, 2]].clone()
    mirrored[..., 0] = WIDTH - 1 - mirrored[..., 0]
    expected, _ = encode(keypoints, seen, (WIDTH, HEIGHT))
    flipped, _ = encode(mirrored, seen, (WIDTH, HEIGHT))
    assert torch.allclose(flip_back(flipped, [1, 0, 2]), expected, atol=1e-6)
