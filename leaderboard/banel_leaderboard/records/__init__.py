"""The files of a run: its record, its folder, and where finished runs are found."""
