"""Which dependence is a question of its own: within bands, between them, of all, of chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdm_repr.analysis.columns.layout import Layout, counted

BETWEEN, ALL, CHOSEN = "between_bands", "all_elements", "chosen_elements"


@dataclass(frozen=True)
class Question:
    """Blocks of columns whose dependence on each other is measured.

    Attributes:
        name: in tables and metric keys.
        label: in figures and sentences.
        blocks: columns of each block, two blocks or more.
    """

    name: str
    label: str
    blocks: tuple[tuple[int, ...], ...]

    @property
    def d(self) -> int:
        """Number of columns."""
        return sum(len(block) for block in self.blocks)


def questions(of: Layout, first: int) -> list[Question]:
    """Return what is asked: within bands, between bands, of all, of the first and of chosen ones.

    Args:
        of: the columns.
        first: how many of the first columns to measure on their own, for estimators that take few;
            0 for none. Left out where a band is just these.

    Raises:
        ValueError: if elements were chosen, but only one column of them.
    """

    def single(columns: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        return tuple((column,) for column in columns)

    def label(name: str, span: range) -> str:
        whole = of.whole(name)
        return f"within {name}" + ("" if whole == len(span) else f" ({counted(len(span), whole)})")

    spans = {name: range(*ends) for name, ends in of.bands.items()}
    total, whole = len(of.columns), of.whole()
    partly = "" if total == whole else f" ({counted(total, whole)})"
    asked = [
        Question(name, label(name, span), single(span))
        for name, span in spans.items()
        if len(span) > 1
    ]
    if len(spans) > 1:
        asked.append(
            Question(
                BETWEEN, f"between bands{partly}", tuple(tuple(span) for span in spans.values())
            )
        )
    if 1 < len(spans) < total:
        # What is called "all" is all: of a part, name and label count.
        name, text = (
            (ALL, "all elements")
            if total == whole
            else (f"{total}_of_{whole}_columns", counted(total, whole))
        )
        asked.append(Question(name, text, single(range(total))))
    first = min(first, total)
    if first > 1 and range(first) not in spans.values():
        asked.append(Question(f"first_{first}", f"first {first}", single(range(first))))
    if len(of.chosen) == 1:
        raise ValueError("--elements: names one column only; name two or more")
    if of.chosen:
        asked.append(Question(CHOSEN, "chosen elements", single(of.chosen)))
    return asked
