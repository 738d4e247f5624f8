"""Label datasets as the files of other tools, one tool a module.

A module writes people that `labels.reading` hands it, one frame or one track at a time. It knows neither
the other formats nor where its file will stand.
"""
