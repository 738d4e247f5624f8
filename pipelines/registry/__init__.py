"""Model versions in MLflow, the gate, promotion and the audit log.

Knows no Ray and no stage.
"""
