"""One thin file a stage of dvc.yaml: arguments and parameters in, one call, files out.

No stage imports another, and nothing but a command imports a stage.
"""
