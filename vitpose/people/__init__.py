"""The built-in people: drawn pictures and videos with exact keypoints.

Only the stage `draw` imports it; it knows skeletons and images, no data format but COCO as it writes it.
"""
