"""The recipe of Burda et al. 2016 (arXiv:1509.00519) for one stochastic layer, k = 1, as published.

    python3 -m vae_jax.main --config=configs/iwae.py

784-200-200-50 with tanh, batches of 20, Adam with epsilon 1e-4, 3^i epochs at the rate
1e-3 * 10^(-i/7) for i = 0, ..., 7: 3,280 epochs, 9,774,400 steps. They report a test NLL of 86.76.

Other rows of their table: --config.objective.num_samples=5 or 50, --config.objective.name=elbo, and
--config.model.name=hierarchical for two layers, x-100-50. What their code has unlike their paper:

    --config.optimizer.adam_b1=0.99 --config.optimizer.second_moments=ones
    --config.schedule.rounded_rates=True --config.data.shuffle=False
    --config.model.encoder_scale=log_sigma

configs/iwae_fast.py reaches these numbers in far fewer steps.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.num_valid = 400
    config.network.hidden = (200, 200)
    config.network.activation = "tanh"
    config.hypers.latent_dim = 50
    config.objective.name = "iwae"
    config.objective.num_samples = 1
    config.optimizer.adam_epsilon = 1e-4
    config.schedule.learning_rate = "stages"
    config.hypers.learning_rate = 1e-3
    config.hypers.lr_final_fraction = 0.1
    config.hypers.lr_warmup_epochs = 0.0
    config.hypers.beta_warmup_epochs = 0.0
    config.hypers.clip_norm = 1e9  # it clips nothing
    config.train.batch_size = 20
    config.train.num_epochs = 3280.0
    config.train.steps_per_call = 2980  # an epoch: a row of metrics for each
    config.eval.nll_samples = 5000
    config.eval.every_epochs = 10.0
    config.eval.select = "bound"
    config.checkpoint.every_epochs = 10.0
    return config
