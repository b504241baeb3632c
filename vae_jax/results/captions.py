"""What a reader should look for in each picture; the part between ** names it.

The captions of an estimator's pictures are in its own file.
"""

SWEEP = {
    "heat_maps.png": (
        "**The numbers over the sweep.** A ridge of equal colour means that the choice along "
        "it does not matter; rate and active units say why an NLL is what it is. Trust "
        "differences that are larger than the spread over seeds."
    ),
    "rate_distortion.png": (
        "**Rate against distortion.** All points on a grey line have the same ELBO. Members "
        "further left send less through the code, members lower down reconstruct better; what "
        "lies above and to the right of another point is worse in both."
    ),
    "strips.png": (
        "**Samples of each member**, from the same noise in every row: what changes down a "
        "column is the effect of the sweep alone."
    ),
}
MEMBER = {
    "curves.png": (
        "**Training.** Train and valid should move together: where valid turns back while "
        "train goes on, the model overfits. A rate that falls to zero and stays there is a "
        "collapsed posterior. While beta warms up, the distortion may rise again: so much the "
        "smaller rate costs."
    ),
    "samples.png": (
        "**Samples.** What the model takes for data. Look for variety first and for sharpness "
        "second: tiles that are all alike mean that the code is not used, broken ones that the "
        "codes of the data do not fill the prior."
    ),
    "reconstructions.png": (
        "**Reconstructions.** Fine noise in the differences is what p(x|z) leaves open; a "
        "stroke or an object that turns into another is what the code does not carry."
    ),
    "interpolation.png": (
        "**Interpolation.** Every step should be a plausible example of its own, and change "
        "without a jump. Two examples on top of one another, each fading, are a path through "
        "codes that no data has."
    ),
    "traversal.png": (
        "**Traversal.** A unit that carries information changes the image along its row; one "
        "with a KL near zero changes nothing. A row in which one property changes alone is "
        "disentangled."
    ),
    "manifold.png": (
        "**The plane of the code.** Neighbours should look alike; where one kind of example "
        "passes into another, the model says what it takes to be similar."
    ),
    "latents.png": (
        "**Codes of test examples.** Labels were not used in training: clusters are what the "
        "model found by itself. Points far out, or gaps between them, are where samples from "
        "the prior and codes of data part."
    ),
    "rates.png": (
        "**Rate, unit by unit.** How many units are used, and how evenly. Units in grey hold "
        "nothing: the model leaves them at the prior, and a smaller latent_dim would do."
    ),
}
# Of a plain autoencoder, which has neither a rate nor a prior.
AUTOENCODER = MEMBER | {
    "curves.png": (
        "**Training.** Train and valid should move together: where valid turns back while "
        "train goes on, the model overfits."
    ),
    "samples.png": (
        "**Samples: decoded draws from a Gaussian fitted to the training codes.** An "
        "autoencoder has no prior of its own; this is the simplest one that can be put in its "
        "place afterwards."
    ),
    "traversal.png": (
        "**Traversal.** What each unit of the code stands for, over the values that it takes. "
        "Nothing asks the units to differ in meaning, or the places between codes to mean "
        "anything."
    ),
    "latents.png": (
        "**Codes of test examples.** Labels were not used in training. Look at the scale of "
        "the axes and at the gaps: nothing holds the codes together."
    ),
}
