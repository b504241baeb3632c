"""What estimators found, in words: for the terminal and the report.

`entry` is an element of `evaluation` in results.json, `known` the estimators {name: Estimator}.
"""

from vae_jax.estimators import bounds_plot
from vae_jax.estimators.estimator import Estimator


def with_numbers(entry: dict, known: dict[str, Estimator]) -> dict[str, dict]:
    """{estimator: its numbers}, without those that have a warning in the place of numbers."""
    found = {name: entry[name] for name in known if name in entry}
    return {name: numbers for name, numbers in found.items() if numbers.keys() != {"warning"}}


def rows(entry: dict, known: dict[str, Estimator]) -> list[tuple[str, str, str]]:
    """(name, numbers in one line, what they mean) of each estimate, `+-` over examples."""
    found = with_numbers(entry, known)
    return [(name, known[name].line(found[name]), known[name].meaning) for name in found]


def warnings(entry: dict, known: dict[str, Estimator]) -> list[str]:
    """What casts doubt on an estimate."""
    warned = [name for name in known if entry.get(name, {}).get("warning")]
    return [f"{name}: {entry[name]['warning']}" for name in warned]


def captions(known: dict[str, Estimator], of_members: bool) -> dict[str, str]:
    """{file: caption} of the pictures of one member, or of those that compare members."""
    found = {} if of_members else {bounds_plot.FILE: bounds_plot.CAPTION}
    for estimator in known.values():
        for picture in estimator.pictures:
            if picture.of_members == of_members:
                found[picture.file] = picture.caption
    return found
