"""The sizes of the family, the grid of tokens, and where attention looks. Plain numbers: loads no torch.

small to huge are those of the published configurations; nano and tiny are ours (there is no official
ViTPose smaller than S). small has 12 heads of 32 channels, where timm's and DeiT's ViT-S has 6 of 64:
the weights have the same shapes, so weights run with the wrong number load without a word and give
garbage.

What is known of ViTPose-G: about 1 B parameters, input 576x432, drop path 0.55 (recalled from the
paper), COCO test-dev AP 80.9. Its backbone is ViTAE-G, which has convolution branches and so is no
plain ViT; neither its configuration nor its weights were ever released, so it cannot be built here.
"""

from dataclasses import dataclass

PATCH = 16
"""Side of a patch in pixels, for every size (the huge model of MAE has 14: padded when imported)."""

MLP_RATIO = 4
"""Hidden channels of a block's MLP per embedding channel."""


PATCH_PADDING = {16: 2, 8: 4}
"""Zero padding of the patch projection by feature stride, in pixels.

A compatibility constant: at stride 16 token i sees the pixels 16i-2 .. 16i+13, and the last two rows
and columns of the picture are never seen. The authors call it harmless to leave out, but every released
weight was trained with it (official vit.py: 4 + 2 (ratio // 2 - 1)). Zero after normalisation, so the
picture itself must not be padded instead.
"""

LAYER_NORM_EPS = 1e-6

VARIANTS = ("full", "window", "shift", "pool", "shift_pool")
"""Of attention. `attention` carries them out, and says what the paper leaves open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Architecture of one size, and the two numbers of the recipe that differ between sizes."""

    embed_dim: int
    depth: int
    num_heads: int
    drop_path: float
    """Published rate of the last block for COCO, 256x192; rises linearly from 0 in the first."""
    layer_decay: float
    """Published factor between the learning rates of neighbouring blocks."""


SIZES: dict[str, Size] = {
    "nano": Size(embed_dim=96, depth=4, num_heads=3, drop_path=0.0, layer_decay=0.9),
    "tiny": Size(embed_dim=128, depth=4, num_heads=4, drop_path=0.0, layer_decay=0.9),
    "small": Size(embed_dim=384, depth=12, num_heads=12, drop_path=0.1, layer_decay=0.8),
    "base": Size(embed_dim=768, depth=12, num_heads=12, drop_path=0.3, layer_decay=0.75),
    "large": Size(embed_dim=1024, depth=24, num_heads=16, drop_path=0.5, layer_decay=0.8),
    "huge": Size(embed_dim=1280, depth=32, num_heads=16, drop_path=0.55, layer_decay=0.85),
}


def find_size(name: str) -> Size:
    """The size called `name`; `ValueError` lists the names there are."""
    if name not in SIZES:
        known = ", ".join(SIZES)
        raise ValueError(f"size {name!r} is unknown; expected one of {known}")
    return SIZES[name]


def size_of_shape(embed_dim: int, depth: int) -> str:
    """Name of the size with this width and depth, as read off a checkpoint's shapes."""
    for name, size in SIZES.items():
        if (size.embed_dim, size.depth) == (embed_dim, depth):
            return name
    known = ", ".join(f"{name} {size.embed_dim} x {size.depth}" for name, size in SIZES.items())
    raise ValueError(
        f"no size has embedding width {embed_dim} and {depth} blocks; expected one of {known}. A block "
        "may be missing from the checkpoint, or it is another model's"
    )


def grid_of(image_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Tokens of an image, (height, width); `ValueError` where it does not divide."""
    if stride not in PATCH_PADDING:
        raise ValueError(f"stride {stride} is not supported; expected 16 or 8")
    height, width = image_hw
    if height < PATCH or width < PATCH or height % PATCH or width % PATCH:
        raise ValueError(
            f"image size {height} x {width} (height x width) is not divisible by {PATCH}; choose "
            "multiples such as 256 x 192"
        )
    return height // stride, width // stride


@dataclass(frozen=True)
class Windows:
    """Where one block's attention looks: windows of `window_hw` on a map of `grid_hw` tokens."""

    grid_hw: tuple[int, int]
    window_hw: tuple[int, int]
    shift_hw: tuple[int, int] = (0, 0)
    pool: bool = False

    @property
    def padded_hw(self) -> tuple[int, int]:
        """The map, grown to whole windows."""
        (height, width), (wh, ww) = self.grid_hw, self.window_hw
        return -(-height // wh) * wh, -(-width // ww) * ww

    @property
    def count(self) -> int:
        """Windows of one map."""
        padded = self.padded_hw
        return padded[0] // self.window_hw[0] * (padded[1] // self.window_hw[1])


def plan_windows(
    variant: str,
    depth: int,
    grid_hw: tuple[int, int],
    window_hw: tuple[int, int],
    global_blocks: tuple[int, ...] = (),
) -> list[Windows | None]:
    """One entry a block: its windows, or None for attention over the whole map.

    Raises `ValueError` for an unknown variant, a window without tokens or larger than the map, and a
    global block that does not exist.
    """
    if variant not in VARIANTS:
        raise ValueError(f"attention {variant!r} is unknown; expected one of {', '.join(VARIANTS)}")
    outside = [i for i in global_blocks if not 0 <= i < depth]
    if outside:
        raise ValueError(f"global block(s) {outside} do not exist; blocks are 0 .. {depth - 1}")
    if variant == "full":
        return [None] * depth
    if any(not 1 <= w <= g for w, g in zip(window_hw, grid_hw, strict=True)):
        raise ValueError(
            f"window of {window_hw[0]} x {window_hw[1]} tokens on a map of {grid_hw[0]} x {grid_hw[1]}; "
            "a window has at least one token and is no larger than the map: choose a smaller "
            "window_hw, a larger image_hw or stride 8"
        )
    half = tuple(0 if w == g else w // 2 for w, g in zip(window_hw, grid_hw, strict=True))
    plan: list[Windows | None] = []
    windowed = 0
    for block in range(depth):
        if block in global_blocks:
            plan.append(None)
            continue
        shifted = variant.startswith("shift") and windowed % 2 == 1
        plan.append(
            Windows(
                grid_hw,
                window_hw,
                (half[0], half[1]) if shifted else (0, 0),
                pool=variant.endswith("pool"),
            )
        )
        windowed += 1
    return plan
