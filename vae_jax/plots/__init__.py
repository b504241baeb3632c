"""The pictures of a run, a module per subject. Matplotlib is imported where it is used: it takes a second."""
