"""Training: the step of one member, the program of a population, the one loop, the evaluation of
a split."""
