"""The page for people: a few files that ask the API as any program does, and the reports beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from gdm_repr.serve.answers import ReportsAnswer

if TYPE_CHECKING:
    from gdm_repr.serve.options import ServeConfig

PAGES = Path(__file__).parent / "pages"
INDEX, REPORT = "index.html", "report.html"
# The page asks this service alone, and runs no script but its own.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)


def add_explorer(app: FastAPI, config: ServeConfig) -> None:
    """Serve the page at /, its files, and the reports.

    Args:
        app: the application.
        config: with the folder of reports, if there is one.
    """

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return FileResponse(PAGES / "explorer.html", headers=headers)

    @app.get("/v1/reports", tags=["stores"], summary="List the pages of analyses")
    async def reports() -> ReportsAnswer:
        return ReportsAnswer(pages=list_reports(config.reports))

    app.mount("/pages", StaticFiles(directory=PAGES), name="pages")
    if config.reports is not None:
        app.mount("/reports", StaticFiles(directory=config.reports), name="reports")


def list_reports(folder: Path | None) -> list[str]:
    """Return the pages of a folder of analyses, below it: the index first."""
    if folder is None:
        return []
    found = [INDEX] if (folder / INDEX).is_file() else []
    below = sorted(path for path in folder.glob(f"*/{REPORT}") if path.is_file())
    return found + [path.relative_to(folder).as_posix() for path in below]
