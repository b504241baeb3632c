"""Networks of encoder and decoder, by name: the only package that imports flax.

A part's `make(section, input_shape, example_shape, width, dtype=None) -> Architecture`:

Args:
  section: config.network.
  input_shape: the shape of what the encoder sees.
  example_shape: the shape of x, of which the decoder puts out the likelihood's parameters.
  width: latent units of the arrays; a member may have fewer active ones.
  dtype: of the computation; None: float32. Parameters are always float32.
"""

from vae_jax.networks import conv, mlp
from vae_jax.types import Part

NETWORKS: dict[str, Part] = {"mlp": mlp.PART, "conv": conv.PART}
