"""ViTPose, whole: models, data, training, evaluation, inference and labels.

The package knows no Ray, MLflow, DVC or YAML. It re-exports nothing, so that importing one module
loads that module's own dependencies and no others.
"""

__version__ = "0.1.0"
