"""What a run tells: tables, the HTML page, the comparison of runs, and what happens after training."""
