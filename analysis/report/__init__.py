"""One page for each analysis: question, answer, pictures, tables, how it was measured."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

if TYPE_CHECKING:
    from gdm_repr.analysis.report.page import Picture, Report, Table, write_report

__all__ = [
    "Picture",
    "Report",
    "Table",
    "write_report",
]

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "Picture": ".page",
        "Report": ".page",
        "Table": ".page",
        "write_report": ".page",
    },
)
