"""Many devices, many processes, many members: where arrays live and how one member's step becomes a population's."""
