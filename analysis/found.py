"""What an analysis measured: a value first, its report second."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdm_repr.analysis.report.page import Report
    from gdm_repr.analysis.subject import Subject


@dataclass(frozen=True, eq=False)
class Found:
    """What one analysis measured; each has a class of its own, in ``measure.py`` of its folder.

    Attributes:
        config: its options.
        subject: what was looked at.
    """

    config: Any
    subject: Subject

    def report(self) -> Report:
        """Say what was found: sentences, pictures, tables, controls and limits."""
        folder = type(self).__module__.rpartition(".")[0]
        report: Report = import_module(f"{folder}.report").report(self)
        return report

    def _repr_html_(self) -> str:
        """Show the answer in a notebook."""
        report = self.report()
        lines = "".join(f"<p>{escape(line)}</p>" for line in report.answer)
        return f"<h4>{escape(report.question)}</h4>{lines}"
