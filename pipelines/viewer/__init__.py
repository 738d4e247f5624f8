"""The viewer: labels of videos looked at and corrected in a browser, served or exported.

`rows` and `pictures` read, `site` answers a path with bytes, `serving` and `exporting` bring them out.
What runs in the browser lies beside (viewer.html, .css, .js). Knows labels and videos; neither models
nor stages.
"""
