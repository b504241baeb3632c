"""The numbers that results.json holds under `evaluation`, in words: for the terminal and the report."""

MEANS = {
    "iwae": "importance-weighted bound on log p(x): lower, tighter with more samples",
    "ais": "annealed importance sampling of the same examples: a lower bound on log p(x)",
    "bdmc": "on examples simulated from the model the truth lies between the two bounds",
    "rate_distortion": "what the decoder could do with the best code of every rate",
    "gaps": "what the family of q(z|x) costs, and what it costs that one encoder serves all x",
    "latents": "KL to the prior = information about x + dependence of the units + misfit of their marginals",
    "probes": "how much of the labels simple classifiers read from the codes",
    "samples": "samples against training examples, in a feature space trained on the labels (not FID's)",
}


def rows(entry: dict) -> list[tuple[str, str, str]]:
    """(name, numbers, what they mean) of each estimate of one member, `+-` over examples."""
    return [(name, LINES[name](found), MEANS[name]) for name, found in known(entry).items()]


def known(entry: dict) -> dict[str, dict]:
    """The estimates of one member that have numbers; in place of others there is a warning alone."""
    return {name: entry[name] for name in LINES if name in entry and entry[name].keys() != {"warning"}}


def warnings(entry: dict) -> list[str]:
    """What casts doubt on an estimate."""
    return [f"{name}: {found['warning']}" for name in LINES if (found := entry.get(name)) and found.get("warning")]


def _bound(found: dict) -> str:
    noise = "unknown" if found["noise_stderr"] is None else f"{found['noise_stderr']:.2f}"
    return f"{found['log_p']:.2f} +- {found['stderr']:.2f} (noise {noise})"


def _iwae(found: dict) -> str:
    parts = (
        f"{_bound(bound)} with {bound['samples']:,} samples, {bound['effective_samples']:.3g} effective"
        for bound in found["bounds"]
    )
    return "; ".join(parts)


def _ais(found: dict) -> str:
    chains = f"{found['ais_chains']} chains x {found['ais_distributions']:,} distributions from the"
    return f"{_bound(found)}, {chains} {found['ais_initial']}; acceptance {found['acceptance']:.2f}"


def _bdmc(found: dict) -> str:
    return (
        f"{_bound(found['lower'])} to {_bound(found['upper'])}: {found['width']:.3f} +- {found['width_stderr']:.3f} "
        f"apart; the bound of {found['iwae']['samples']:,} importance samples {found['iwae_width']:.3f} below the upper"
    )


def _rate_distortion(found: dict) -> str:
    i = min(range(len(found["beta"])), key=lambda i: abs(found["beta"][i] - 1.0))
    best = f"rate {found['rate'][i]:.2f}, distortion {found['distortion'][i]:.2f}"
    return f"at beta 1 the curve is at {best}; the encoder at {found['elbo_rate']:.2f}, {found['elbo_distortion']:.2f}"


def _gaps(found: dict) -> str:
    of = lambda name: f"{name} gap {found[name]:.2f} +- {found[f'{name}_stderr']:.2f}"  # noqa: E731
    whole = f"log p(x) - ELBO = {found['log_p']:.2f} - ({found['elbo']:.2f})"
    return f"{whole} = {of('approximation')} + {of('amortization')}"


def _latents(found: dict) -> str:
    of = lambda name: f"{found[name]:.2f} +- {found[f'{name}_stderr']:.2f}"  # noqa: E731
    limit = f"{found['log_num_examples']:.2f} = log {found['num_examples']:,}"
    note = ", SATURATED: it tells the number of examples" if found["saturated"] else ""
    return (
        f"rate {of('rate_sampled')} = mutual information {of('mutual_information')} (at most {limit}{note}) + total "
        f"correlation {of('total_correlation')} + dimension-wise KL {of('dimension_wise_kl')}; KL(q(z) || p(z)) "
        f"{of('aggregate_kl')}"
    )


def _probes(found: dict) -> str:
    return (
        f"accuracy {found['linear_probe']:.2%} of a linear probe, {found['nearest_neighbours']:.2%} of "
        f"{found['neighbours']} nearest neighbours"
    )


def _samples(found: dict) -> str:
    def of(name: str, kind: str) -> str:
        n = found[kind]
        shares = "/".join(f"{n[metric]:.2f}" for metric in ("precision", "recall", "density", "coverage"))
        return f"{name} {shares}, Frechet {n['frechet']:.4g}"

    kinds = (of("x ~ p(x|z)", "draws"), of("E[x|z]", "means"), of("test examples, the reference,", "test"))
    return f"precision/recall/density/coverage: {'; '.join(kinds)}; {found['num_examples']:,} of each"


LINES = {
    "iwae": _iwae,
    "ais": _ais,
    "bdmc": _bdmc,
    "rate_distortion": _rate_distortion,
    "gaps": _gaps,
    "latents": _latents,
    "probes": _probes,
    "samples": _samples,
}
