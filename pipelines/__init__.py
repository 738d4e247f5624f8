"""Wiring: one thin file a stage, and what the stages share with Ray, MLflow and params.yaml.

The library, `vitpose`, never imports anything from here.
"""
