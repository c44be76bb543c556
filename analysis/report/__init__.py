"""One page for each analysis: question, answer, pictures, tables, how it was measured.

Names are imported when they are first asked for (PEP 562): options name some of the submodules, and
``--help`` must stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdm_repr.analysis.report.page import Picture, Report, Table, write_report

__all__ = [
    "Picture",
    "Report",
    "Table",
    "write_report",
]

_HOMES = {
    "Picture": ".page",
    "Report": ".page",
    "Table": ".page",
    "write_report": ".page",
}


def __getattr__(name: str) -> object:
    """Import a name of another module's."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    """Name what is loaded on first use, too."""
    return sorted({*globals(), *__all__})
