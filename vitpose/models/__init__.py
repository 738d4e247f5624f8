"""The network alone: backbone, attention, heads, MAE, knowledge token, sizes; and the folders of models.

Knows no data sets, no training and no foreign file format.
"""
