from vitpose.estimation.loading import load as load

__version__: str
__all__ = ["load"]
