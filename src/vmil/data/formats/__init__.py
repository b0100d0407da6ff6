"""Demonstrations from elsewhere: one file per format, each read into `SourceEpisode`s whose alignment is explicit."""
