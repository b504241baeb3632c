"""What a run tells: tables, the page, the comparison of runs, and what follows a training."""
