"""The files of a run: record, checkpoints, rows of metrics, progress, ranking of members."""
