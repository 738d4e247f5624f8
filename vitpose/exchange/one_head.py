"""A model of several heads, or of several experts, cut down to the plain model of one head."""

from dataclasses import replace

from torch import nn

from vitpose.models.experts import merged
from vitpose.models.pose import PoseModel


def one_head(model: PoseModel, head: int | str | None) -> PoseModel:
    """The plain model that computes what `model` does with one head and its expert; or `model`, cut.

    `head` is its skeleton's name or its number. Raises `ValueError` for one that does not exist, and for
    None where there are several.
    """
    config = model.config
    if head is None and len(config.skeletons) > 1:
        names = ", ".join(f"{i}: {s.name}" for i, s in enumerate(config.skeletons))
        raise ValueError(
            f"the model has {len(config.skeletons)} heads, what is written has one; choose of {names}"
        )
    index = config.head_index(head or 0)
    skeletons = (config.skeletons[index],)
    if not config.experts:
        model.heads = nn.ModuleList([model.heads[index]])
        model.config = replace(config, skeletons=skeletons)
        return model
    plain = PoseModel(replace(config, experts=0, skeletons=skeletons))
    prefix = f"heads.{index}."
    weights = {
        key.replace(prefix, "heads.0.", 1): value
        for key, value in model.state_dict().items()
        if key.startswith(prefix) or not key.startswith("heads.")
    }
    plain.load_state_dict(merged(weights, index))
    return plain.train(model.training)
