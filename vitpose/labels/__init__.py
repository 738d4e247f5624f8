"""The label dataset: schema, plan, unit, merge, verify, export.

Knows no Ray: `pipelines.cluster` runs the units.
"""
