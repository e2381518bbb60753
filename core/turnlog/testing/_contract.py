"""All chapters of the kit."""

from __future__ import annotations

from ._cancelling import Cancelling
from ._concurrency import Concurrency
from ._copying import Copying
from ._describing import Describing
from ._expecting import Expecting
from ._expiring import Expiring
from ._lifecycle import Living
from ._limits import Limits
from ._model import Agreeing
from ._naming import Naming
from ._paging import Paging
from ._reading import Reading
from ._repeating import Repeating
from ._retaining import Retaining
from ._rounds import Rounds
from ._sealing import Sealing
from ._since import Following
from ._undoing import Undoing
from ._values import Values
from ._writing import Writing


class BackendContract(
    Writing,
    Reading,
    Following,
    Expecting,
    Repeating,
    Rounds,
    Undoing,
    Copying,
    Retaining,
    Sealing,
    Describing,
    Paging,
    Naming,
    Expiring,
    Values,
    Limits,
    Concurrency,
    Cancelling,
    Living,
    Agreeing,
):
    """Every test of the contract: inherit it, say how to `make` a store, and whether its place is `shared`."""
