"""The members of a sweep, from the config's sweep section alone.

`sweep.<hyper>` lists values of a hyper-parameter: its members train side by side in one program.
`sweep.<section>_<field>` lists values of a static field: each needs a program of its own, and these
run one after another.
"""

import itertools

# Static fields that a sweep may vary: those that change the model or its training, not what it is
# measured on.
SECTIONS = (
    "network",
    "likelihood",
    "prior",
    "model",
    "objective",
    "optimizer",
    "schedule",
    "train",
)
MAX_MEMBERS = 4096  # in one workdir: larger tables and plots are unreadable


def sweepable(config) -> dict[str, str]:
    """{name in the sweep section: the field whose values it lists}."""
    fields = [
        f"{section}.{field}" for section in (*SECTIONS, "hypers") for field in config[section]
    ]
    fields = ["data.seed", *(field for field in fields if field != "train.init_from")]
    return {field.removeprefix("hypers.").replace(".", "_", 1): field for field in fields}


def swept(config) -> dict[str, tuple]:
    """{field: its values} of every field that is swept: static ones first, the seed last."""
    names = {name: field for name, field in sweepable(config).items() if len(config["sweep"][name])}
    order = sorted(names, key=lambda name: (names[name].startswith("hypers."), name == "seed"))
    return {names[name]: tuple(config["sweep"][name]) for name in order}


def members(config) -> list[dict]:
    """What each member changes, {field: value}; [{}] without a sweep.

    mode "product" combines every value with every other, the seed varying fastest; "zip" takes the
    first of each list, then the second, and so on.
    """
    fields = swept(config)
    if not fields:
        return [{}]
    if config["sweep"]["mode"] == "zip":
        rows = zip(*fields.values(), strict=True)
    else:
        rows = itertools.product(*fields.values())
    return [dict(zip(fields, values, strict=True)) for values in rows]


def by_program(members: list[dict]) -> list[list[int]]:
    """The indices of `members` with the same static fields, which share a compiled program."""
    programs: dict[tuple, list[int]] = {}
    for number, changes in enumerate(members):
        static = tuple(item for item in changes.items() if not item[0].startswith("hypers."))
        programs.setdefault(static, []).append(number)
    return list(programs.values())


def equal_parts(numbers: list[int], largest: int) -> list[list[int]]:
    """`numbers` in the fewest parts of at most `largest`, all of one size but for the last."""
    count = -(-len(numbers) // largest)
    size = -(-len(numbers) // count)
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]
