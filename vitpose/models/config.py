"""What a pose model is, in plain values: what its folder's config.json holds. Loads no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vitpose.models.sizes import LAYER_NORM_EPS, find_size, grid_of, plan_windows
from vitpose.skeletons.human import COCO_17, Skeleton, skeleton_from_dict


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Architecture of a `PoseModel`. Raises `ValueError` for what cannot be built."""

    size: str
    skeletons: tuple[Skeleton, ...] = (COCO_17,)
    """One head each, in this order."""
    image_hw: tuple[int, int] = (256, 192)
    """Input height and width in pixels, each divisible by 16."""
    stride: int = 16
    """Input pixels per feature, 16 or 8; heatmaps have a quarter of the input's side either way."""
    head: str = "classic"
    """classic or simple."""
    head_channels: int = 256
    """Channels of the classic head's deconvolutions."""
    attention: str = "full"
    """full, window, shift, pool or shift_pool."""
    window_hw: tuple[int, int] = (8, 8)
    """Height and width of a window in tokens; unused with full attention."""
    global_blocks: tuple[int, ...] = ()
    """Blocks (0-based) that keep full attention whatever `attention` is."""
    patch_padding: bool = True
    """As the released weights need it: 2 pixels at stride 16, 4 at stride 8."""
    drop_path: float | None = None
    """Drop path rate of the last block in training; None for the size's published one."""
    layer_norm_eps: float = LAYER_NORM_EPS
    """1e-6 for every published model; other only where an imported file says so."""
    num_heads: int | None = None
    """Attention heads where the weights it starts from have another number; None for the size's own."""
    pre_norm: bool = False
    """A norm before the first block, which CLIP's image tower has and ViTPose has not."""
    knowledge_token_dim: int | None = None
    """Width of the knowledge token (its teacher's); None for no token."""
    learned_projection: bool = False
    """How a token of another width is projected in models older than `pose.FixedProjection`."""
    experts: int = 0
    """ViTPose+: experts a block, one per dataset; expert i belongs to head i. 0 for a plain model."""
    expert_features: int | None = None
    """Output channels of an expert; None for a quarter of the width, as released."""

    def __post_init__(self) -> None:
        size = find_size(self.size)
        grid = grid_of(self.image_hw, self.stride)
        if self.num_heads is not None and (self.num_heads < 1 or size.embed_dim % self.num_heads):
            raise ValueError(
                f"num_heads must divide the width {size.embed_dim} of {self.size}, got {self.num_heads}"
            )
        if not self.skeletons:
            raise ValueError("a pose model needs at least one skeleton; none was given")
        if self.head not in ("classic", "simple"):
            raise ValueError(f"head {self.head!r} is unknown; expected classic or simple")
        if self.head_channels < 1:
            raise ValueError(f"head_channels must be positive, got {self.head_channels}")
        if self.drop_path is not None and not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.knowledge_token_dim is not None and self.knowledge_token_dim < 1:
            raise ValueError(f"knowledge_token_dim must be positive, got {self.knowledge_token_dim}")
        plan_windows(self.attention, size.depth, grid, self.window_hw, self.global_blocks)
        if self.experts and self.experts < len(self.skeletons):
            raise ValueError(
                f"{self.experts} experts for {len(self.skeletons)} skeletons; each head needs its own "
                "expert, set experts to at least the number of skeletons, or to 0"
            )
        if self.experts and not 0 < self.part < size.embed_dim:
            raise ValueError(
                f"expert_features must be between 1 and {size.embed_dim - 1}, got {self.part}"
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the feature map in tokens."""
        return grid_of(self.image_hw, self.stride)

    @property
    def heatmap_hw(self) -> tuple[int, int]:
        """Height and width of the heatmaps."""
        return self.image_hw[0] // 4, self.image_hw[1] // 4

    @property
    def part(self) -> int:
        """Output channels of an expert."""
        quarter = find_size(self.size).embed_dim // 4
        return quarter if self.expert_features is None else self.expert_features

    @property
    def drop_path_rate(self) -> float:
        """The rate in force."""
        return find_size(self.size).drop_path if self.drop_path is None else self.drop_path

    def head_index(self, head: str | int) -> int:
        """Which head that is: its skeleton's name, or its number, as text too.

        Raises `ValueError` with the names there are.
        """
        names = [skeleton.name for skeleton in self.skeletons]
        if head in names:
            return names.index(str(head))
        if str(head).isdecimal() and int(head) < len(names):
            return int(head)
        known = ", ".join(f"{i}: {name}" for i, name in enumerate(names))
        raise ValueError(f"head must be one of {{{known}}}, got {head}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "PoseConfig":
        """The inverse of `to_dict`, after a trip through JSON (lists for tuples)."""
        unknown = sorted(set(raw) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(
                f"pose model config has unknown key(s) {unknown}; was it made by a newer version?"
            )
        if "size" not in raw or not raw.get("skeletons"):
            raise ValueError("pose model config lacks 'size' or 'skeletons'; it is not whole")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}
        # A model with a token that does not say how it is projected is of the time when that was learned.
        values.setdefault("learned_projection", values.get("knowledge_token_dim") is not None)
        values["skeletons"] = tuple(skeleton_from_dict(s) for s in raw["skeletons"])
        return cls(**values)
