"""`turnlog verify-backend`."""

from __future__ import annotations

from turnlog import PluginError
from turnlog.config import mask

from ._text import Code, line, note


def verify_backend(url: str, *, quiet: bool) -> int:
    """Test a backend against the whole contract, and report which parts of it the backend keeps.

    Args:
        url: The URL of a store without sessions.
        quiet: Show no test before it runs.
    """
    try:
        from turnlog.testing.over_url import verify
    except ImportError as error:
        raise PluginError(f"the tests need pytest: run pip install 'turnlog[kit]' ({error})") from error

    report = verify(url, lambda text: None if quiet else note(mask(text, url)))
    for text in report.lines():
        print(line(mask(text, url)))
    return Code.FINE if report.is_sound else Code.FAILED
