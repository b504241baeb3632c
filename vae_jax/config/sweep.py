"""The members of a sweep, from the config's sweep section alone.

`sweep.<hyper>` lists values of a hyper-parameter: its members train side by side in one program.
`sweep.<section>_<field>` lists values of a static field: one program for each, one after another.
"""

import itertools

# Static fields that a sweep may vary: those that change the model or its training, not what it is measured on.
SECTIONS = ("model", "objective", "train")
MAX_MEMBERS = 4096  # in one workdir: tables and pictures of more say nothing


def sweepable(config) -> dict[str, str]:
    """{name in the sweep section: the field whose values it lists}."""
    fields = [f"{section}.{field}" for section in (*SECTIONS, "hypers") for field in config[section]]
    fields = ["data.seed", *(field for field in fields if field != "train.init_from")]
    return {field.removeprefix("hypers.").replace(".", "_", 1): field for field in fields}


def swept(config) -> dict[str, tuple]:
    """{field: its values} of every field that is swept: static ones first, the seed last."""
    names = {name: field for name, field in sweepable(config).items() if len(config["sweep"][name])}
    order = sorted(names, key=lambda name: (names[name].startswith("hypers."), name == "seed"))
    return {names[name]: tuple(config["sweep"][name]) for name in order}


def members(config) -> list[dict]:
    """What each member changes, {field: value}; [{}] without a sweep.

    mode "product" combines every value with every other, the seed's fastest; "zip" takes the first of each list,
    then the second, and so on.
    """
    fields = swept(config)
    if not fields:
        return [{}]
    rows = (
        zip(*fields.values(), strict=True) if config["sweep"]["mode"] == "zip" else itertools.product(*fields.values())
    )
    return [dict(zip(fields, values, strict=True)) for values in rows]


def by_program(members: list[dict]) -> list[list[int]]:
    """The numbers of `members` that have the same static fields, and with them one compiled program."""
    programs = []
    for number, changes in enumerate(members):
        static = {field: value for field, value in changes.items() if not field.startswith("hypers.")}
        numbers = next((numbers for fields, numbers in programs if fields == static), None)
        if numbers is None:
            programs.append((static, numbers := []))
        numbers.append(number)
    return [numbers for _, numbers in programs]


def equal_parts(numbers: list[int], largest: int) -> list[list[int]]:
    """`numbers` in as few parts of at most `largest` as possible, all of one size but for the last."""
    count = -(-len(numbers) // largest)
    size = -(-len(numbers) // count)
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]
