"""The configuration: its fields, whether they are possible together, and the members of a sweep."""

# ruff: noqa: F401
from vae_jax.config.checks import (
    CHOICES,
    NOT_NEGATIVE,
    POSITIVE,
    as_command,
    check,
    default,
    flatten,
    nearest,
    single,
    unflatten,
    unknown_field,
)
