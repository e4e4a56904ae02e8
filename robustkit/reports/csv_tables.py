"""Tables as CSV: raw numbers in long format, for programs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import report
from robustkit.reports._files import write_text
from robustkit.reports._table import Table
from robustkit.reports._tables import tables


@report("csv", title="CSV tables")
def csv_tables(results: Results, out: Path) -> list[Path]:
    """Write the raw numbers of every table as ``tables/<name>.csv``, one evaluation, cell or check per row."""
    return [
        write_text(out / "tables" / f"{table.name}.csv", comma_separated(table))
        for table in tables(results)
        if table.records
    ]


def comma_separated(table: Table) -> str:
    """Return the records of one table as CSV; floats in full precision, a missing value empty."""
    stream = io.StringIO()
    columns = list(dict.fromkeys(key for record in table.records for key in record))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return stream.getvalue()
