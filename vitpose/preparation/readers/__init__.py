"""One reader a format of annotations; each gives `rows.PersonSet`.

They open no image.
"""
