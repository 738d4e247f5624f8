"""Annotations as tools export them, to one COCO file: a step of its own before `prepare`.

Each module reads one format to a COCO mapping (`mapping`), whose `file_name`s are relative to the image
folder. Every check of single people is `readers.coco`'s. May not import `readers.formats`: `prepare`
touches none of this.
"""
