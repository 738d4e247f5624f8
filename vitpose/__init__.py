"""ViTPose, whole: models, data, training, evaluation, inference and labels.

    from vitpose import load
    poses = load("models:/vitpose@champion")("photo.jpg")

The package knows no Ray, MLflow, DVC or YAML. It re-exports `load` and nothing else, and that only when
it is asked for, so that importing one module loads that module's own dependencies and no others. What
type checkers see is in `__init__.pyi`.
"""

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> object:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # By name, since what a stage imports is what it reruns for.
    return import_module("vitpose.estimation.loading").load
