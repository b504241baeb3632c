"""Many devices, many processes, many members: where arrays live, and how a function of one member
becomes a function of the population."""
