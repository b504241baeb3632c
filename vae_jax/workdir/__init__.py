"""The files of a run: what is recorded, checkpoints, rows of metrics, progress, the ranking of members."""
