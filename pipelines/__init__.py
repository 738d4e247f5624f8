"""Wiring: DVC stages, Ray, MLflow and the program around the library `vitpose`.

Rooms from the bottom: params, place, experiments, cluster, registry, page, stages, cli; imports go down.
"""
