"""The rate-distortion curve of a decoder, by annealed importance sampling (Huang et al. 2020, arXiv:2008.06653).

For each beta the best encoder of all is q_beta(z|x) = p(z) p(x|z)^beta / Z_beta(x), and

    distortion  D = E_q_beta[-log p(x|z)]
    rate        R = KL(q_beta(z|x) || p(z)) = -beta D - log Z_beta(x)

No encoder with this decoder and prior lies below the curve. At beta = 1, -(D + R) is log p(x).
"""

import numpy as np


def curve(betas: np.ndarray, log_w: np.ndarray, log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distortion, rate), nats, [..., T], of chains annealed from the prior (`ais.from_prior`, forward).

    D is self-normalized over the chains, so both are consistent in their number; log Z is in expectation a lower
    bound, so R is an upper bound where D is exact.

    Args:
      betas: of T distributions  [T]
      log_w, log_ratio: of C chains, as in `ais.Trace`  [..., C, T]
    """
    log_w, distortion = np.asarray(log_w, np.float64), -np.asarray(log_ratio, np.float64)
    log_z = np.logaddexp.reduce(log_w, axis=-2) - np.log(log_w.shape[-2])
    share = np.exp(log_w - log_z[..., None, :]) / log_w.shape[-2]
    distortion = np.sum(share * distortion, axis=-2)
    return distortion, -betas * distortion - log_z
