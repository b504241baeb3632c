"""The networks of Burda et al. 2016, Table 1, trained in fewer steps: one stochastic layer, k = 1.

    python3 -m vae_jax.main --config=configs/iwae_fast.py

1,000 epochs in batches of 100, 596,000 steps, a sixteenth of those of configs/iwae.py: Adam with
a cosine from 3e-3. Chosen on validation data: experiments/iwae_table/tuning.md.

Other rows of their table: --config.objective.name=iwae with --config.objective.num_samples=5, or
--config.model.name=hierarchical for two stochastic layers; experiments/iwae_table.py trains them.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.num_valid = 400  # as the authors' code
    config.network.hidden = (200, 200)
    config.network.activation = "tanh"
    config.hypers.latent_dim = 50
    config.train.batch_size = 100
    config.train.num_epochs = 1000.0
    config.hypers.learning_rate = 3e-3
    config.train.steps_per_call = 596  # an epoch: a row of metrics for each
    config.eval.every_epochs = 10.0
    config.checkpoint.every_epochs = 10.0
    config.eval.nll_samples = 5000
    return config
