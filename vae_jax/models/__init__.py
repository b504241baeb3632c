"""Models by name. A part's `make(section, ingredients) -> Model` takes the section config.model and
the other parts that the configuration chose, as `Ingredients`."""

from vae_jax.models import ae, hierarchical, ladder, vae

MODELS = {
    "vae": vae.PART,
    "hierarchical": hierarchical.PART,
    "ladder": ladder.PART,
    "ae": ae.PART,
}
