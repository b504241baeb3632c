"""Variational autoencoders in JAX: train one or a whole population, and believe the numbers.

config = vae_jax.default()
run = vae_jax.train(config, "runs/mine")
run = vae_jax.load("runs/mine")
"""

import signal
import sys

__version__ = "0.1.0"

# The command line imports this first, for seconds. Ctrl-C ends it there without a traceback, and
# until something has been written.
_is_command = sys.orig_argv[1:3] == ["-m", "vae_jax.main"]
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from vae_jax.api import Run, encode, evaluate, load, report, table, train  # noqa: E402
from vae_jax.parts import default  # noqa: E402
from vae_jax.plots.live import Live  # noqa: E402
from vae_jax.plots.sliders import explore  # noqa: E402

__all__ = [
    "Live",
    "Run",
    "default",
    "encode",
    "evaluate",
    "explore",
    "load",
    "report",
    "table",
    "train",
]
