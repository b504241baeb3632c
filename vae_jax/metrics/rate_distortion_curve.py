"""The rate-distortion curve of a decoder, by annealed importance sampling.

Source: Huang et al. 2020, arXiv:2008.06653.

For each beta the optimal encoder is q_beta(z|x) = p(z) p(x|z)^beta / Z_beta(x), and

    distortion  D = E_q_beta[-log p(x|z)]
    rate        R = KL(q_beta(z|x) || p(z)) = -beta D - log Z_beta(x)

With this decoder and prior, no encoder is below the curve. At beta = 1, -(D + R) is log p(x).
"""

import numpy as np


def curve(
    betas: np.ndarray, log_w: np.ndarray, log_ratio: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(distortion, rate), each [..., T] in nats, of chains annealed forward from the prior.

    D is self-normalized over the chains, so both are consistent in their number. log Z is in
    expectation a lower bound, so R is an upper bound where D is exact.

    Args:
      betas: of T distributions  [T].
      log_w, log_ratio: of C chains, as in `annealing.Trace`  [..., C, T].
    """
    log_w = np.asarray(log_w, np.float64)
    distortion = -np.asarray(log_ratio, np.float64)
    log_z = np.logaddexp.reduce(log_w, axis=-2) - np.log(log_w.shape[-2])
    share = np.exp(log_w - log_z[..., None, :]) / log_w.shape[-2]
    distortion = np.sum(share * distortion, axis=-2)
    return distortion, -betas * distortion - log_z
