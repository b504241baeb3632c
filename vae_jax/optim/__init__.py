"""Optimizers and schedules, both functions of traced hyper-parameters."""
