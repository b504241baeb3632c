"""The configuration: its mechanism. What fields there are, the parts say themselves (parts.py)."""

from vae_jax.config.catalogue import CHOSEN_BY, Catalogue, make_catalogue
from vae_jax.config.checks import (
    as_command,
    check,
    flatten,
    nearest,
    single,
    unflatten,
    unknown_field,
    warn_of_unused,
)

__all__ = [
    "CHOSEN_BY",
    "Catalogue",
    "as_command",
    "check",
    "flatten",
    "make_catalogue",
    "nearest",
    "single",
    "unflatten",
    "unknown_field",
    "warn_of_unused",
]
