"""Moving sessions: `export` to JSON Lines, `import_file` from these and other formats, `copy` between stores.

The commands `turnlog export`, `turnlog import` and `turnlog copy` call these functions.  They work with any backend,
because they use only the public methods of stores.
"""

from __future__ import annotations

from ._copy import Copied, CopyResult, copy
from ._export import Exported, export
from ._import import Imported, import_file
from ._result import ImportResult

__all__ = ["Copied", "CopyResult", "Exported", "ImportResult", "Imported", "copy", "export", "import_file"]
