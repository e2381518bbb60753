"""`turnlog train-dictionary`."""

from __future__ import annotations

import asyncio

from turnlog import InvalidInput

from ._compression import Trained, training
from ._tables import open_existing
from ._text import Code, as_json, complain, note


def train_dictionary(url: str | None, *, json: bool) -> int:
    """Train a dictionary on the sessions of a store, and print which it is.

    Args:
        url: Where they are; None: what the configuration names.
        json: An object for programs.
    """
    try:
        trained = asyncio.run(_train(url))
    except InvalidInput as error:  # there is too little to train on
        complain(error)
        return Code.FAILED
    found = {"id": trained.id, "bytes": trained.size, "sessions": trained.sessions, "rounds": trained.rounds}
    if json:
        print(as_json(found))
    else:
        print("dictionary {id}: {bytes} bytes, trained on {rounds} rounds of {sessions} sessions".format(**found))
        note('to write with it, in turnlog.toml: layers = [{ name = "zstd", dictionary = true }]')
    return Code.FINE


async def _train(url: str | None) -> Trained:
    store = open_existing(url)
    layer = training(store)
    async with store:
        return await layer.train()
