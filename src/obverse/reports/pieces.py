"""The pieces of a report on one or more runs; each says something only where the runs hold something for it."""

from __future__ import annotations

from collections.abc import Sequence

from obverse.reports.answers import calibration_piece, confusion_piece
from obverse.reports.blocks import Piece
from obverse.reports.columns import ReportedRun, columns_of
from obverse.reports.overview import overview_piece, table_piece
from obverse.reports.pairs import Texts, comparison_piece, differences_piece, pairings_of
from obverse.reports.spreads import flipped_piece, settings_piece, templates_piece, wordings_piece


def pieces_of(runs: Sequence[ReportedRun], *, texts: Texts | None = None) -> tuple[Piece, ...]:
    """All pieces that the runs have something for.

    Args:
        runs: at least one.
        texts: finds the texts of instances; None tells ids alone.

    Raises:
        DataError: the records cannot be compared.
    """
    columns = columns_of(runs)
    pairings = pairings_of(runs, columns)
    found: list[Piece | None] = [
        overview_piece(runs),
        table_piece(runs, columns, pairings),
        templates_piece(runs, columns),
        wordings_piece(runs, columns),
        settings_piece(runs, columns),
        flipped_piece(runs, columns),
        calibration_piece(runs, columns),
        confusion_piece(runs, columns),
        comparison_piece(runs, pairings),
        differences_piece(runs, pairings, texts),
    ]
    return tuple(piece for piece in found if piece is not None)
