"""Point at sentences with more than two numbers, in Markdown pages and in the results of analyses.

    python tests/project/sentences.py [FILE ...]      # .md, or a report's result.json

Without files: the README, docs/ and the model card. It prints a line for each and exits with 1.
Not counted are code, tables, headings, addresses and names with digits in them; references
(Fig. 4b, Eq. (8)), years, versions; and what stands in square brackets, so that a band is none
and a number with its interval is one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

MOST = 2
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/*.md", "gdm_repr/assets/scenes.md")
EXCEPTIONS: Mapping[str, str] = {}  # how a sentence begins, and why it may stay

_NAMED = r"(?:Figs?|Eqs?|Secs?|Sections?|Tables?|Props?|Appendix|[Vv]ersions?|Python|[Ss]eeds?"
_NAMED += r"|[Rr]ows?|[Ee]lements?|[Gg]roups?|[Bb]ands?)"
_NOT_COUNTED = [
    r"`[^`]*`",  # code
    r"\]\([^)]*\)",  # the address of a link
    r"https?://\S+",
    r"\b\d+:\d+\b",  # an element by index and channel
    r"\b\d+(?:-\d+){2,}\b",  # an order of groups
    r"\[[^\[\]]*\]",  # an interval, a band, a range
    rf"\b{_NAMED}\.? ?(?:>= ?)?\(?\d[\w.]*\)?(?:(?:, | and | to |-)\(?\d[\w.]*\)?)*",
    r"\b[A-Z]\(0, [1I]\)",  # N(0, 1)
    r"\b95 % (?:\w+ ){0,2}(?:interval|null)s?\b",
    r"\+- ?[\d.,e-]*\d",  # the error of the number before it
    r"\b(?:19[5-9]\d|20[1-4]\d)\b",  # a year
]
_NUMBER = re.compile(r"(?<![\w.^/-])[+-]?\.?\d[\d,.]*(?:e[+-]?\d+)?(?:x\d+)*(?:/\d+)?(?![\w])")
_SHORT = "".join(rf"(?<!{word})" for word in ("et al", "Eq", "Eqs", "Fig", "Figs", "Sec"))
_END = re.compile(rf"{_SHORT}[.!?][)\"'*_]*(?=\s+[^a-z])")


def numbers(sentence: str) -> int:
    """Count the numbers that a reader has to hold.

    >>> numbers("Fig. 4 has 6.2 % [5.1, 7.7] of band [0, 29] in `x 1 2 3` (VGG-19, 2023)")
    1
    >>> numbers("from 0.21 to 1,024 at n = 3e-2")
    3
    """
    for pattern in _NOT_COUNTED:
        sentence = re.sub(pattern, " ", sentence)
    return len(_NUMBER.findall(sentence))


def sentences(text: str) -> Iterator[str]:
    """Split prose into sentences.

    >>> list(sentences("As in Fig. 4, by Lee et al. It is 3.5 % [1, 5]! So (2."))
    ['As in Fig. 4, by Lee et al. It is 3.5 % [1, 5]', 'So (2.']
    """
    yield from filter(None, map(str.strip, _END.split(" ".join(text.split()))))


def paragraphs(markdown: str) -> Iterator[tuple[int, str]]:
    """Yield the first line's number and the text of each paragraph and list item.

    >>> list(paragraphs("# 1 2 3\\n\\n    1 2 3\\n\\nOne\\n- two\\n  three\\n| 1 | 2 | 3 |"))
    [(5, 'One'), (6, 'two three')]
    """
    start, lines, fenced = 0, list[str](), False
    for place, line in enumerate([*markdown.splitlines(), ""], 1):
        bare = line.strip()
        fence = bare.startswith("```")
        fenced ^= fence
        code = fence or fenced or (line.startswith("    ") and not lines)
        skipped = code or not bare or bare.startswith(("|", "#", "<!--"))
        if lines and (skipped or re.match(r"(?:[-*]|\d+\.) ", bare)):
            yield start, " ".join(lines)
            lines = []
        if not skipped:
            start = start if lines else place
            lines.append(re.sub(r"^(?:[-*]|\d+\.) ", "", bare))


def too_full(text: str) -> list[str]:
    """Return the sentences of a text that hold too many numbers."""
    return [
        each
        for each in sentences(text)
        if numbers(each) > MOST and not any(each.startswith(start) for start in EXCEPTIONS)
    ]


def report_texts(result: Mapping[str, object]) -> Iterator[str]:
    """Yield the texts of a report's ``result.json``: answer, controls, limits, captions."""
    for part in ("answer", "controls", "limits"):
        found = result.get(part)
        yield from map(str, found if isinstance(found, list) else ())
    pictures = result.get("pictures")
    yield from (str(each["caption"]) for each in pictures) if isinstance(pictures, list) else ()


def pointed_at(path: Path) -> Iterator[str]:
    """Yield a line for each sentence of a file that holds too many numbers."""
    text = path.read_text(encoding="utf-8")
    texts: Iterable[tuple[int, str]]
    if path.suffix == ".json":
        texts = ((1, each) for each in report_texts(json.loads(text)))
    else:
        texts = paragraphs(text)
    for line, part in texts:
        for sentence in too_full(part):
            yield f"{path}:{line}: {numbers(sentence)} numbers: {sentence}"


def main(argv: list[str]) -> int:
    """Print what is pointed at; 1 if there is anything."""
    paths = [Path(name) for name in argv] or [p for page in PAGES for p in sorted(ROOT.glob(page))]
    found = [line for path in paths for line in pointed_at(path)]
    print("\n".join([*found, f"sentences with more than {MOST} numbers: {len(found)}"]))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
