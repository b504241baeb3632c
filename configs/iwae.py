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
