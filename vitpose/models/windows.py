"""Where each block's attention looks. Plain numbers: importing this loads no torch.

`attention` carries it out, and says what the paper leaves open and how it is decided here.
"""

from dataclasses import dataclass

VARIANTS = ("full", "window", "shift", "pool", "shift_pool")


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
