"""Moving sessions: `export` to JSON Lines, `import_file` from there and from other programs, `copy` between stores.

The commands `turnlog export`, `turnlog import` and `turnlog copy` call these functions.  They use the public methods of
two stores and no backend in particular.
"""

from __future__ import annotations

from ._copy import Copied, CopyResult, copy
from ._export import Exported, export
from ._import import Imported, import_file
from ._result import ImportResult

__all__ = ["Copied", "CopyResult", "Exported", "ImportResult", "Imported", "copy", "export", "import_file"]
