"""The records of a finished run as one Parquet table."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from obverse.errors import DataError
from obverse.runs.disk import in_place
from obverse.runs.records import VERSION, Key, Manifest, Record, StoredRecords

TABLE = "records.parquet"
COPY = "Put a copy in its place, or evaluate again in another folder."

_ROWS_A_GROUP = 20_000


def write_table(folder: Path, manifest: Manifest, records: Iterable[Record]) -> str:
    """Write it, whole or not at all; the same records make the same bytes. Its hexadecimal SHA-256.

    Raises:
        OSError: the disk is full or refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(manifest)

    def group(columns: Mapping[str, list[Any]]) -> Any:
        return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)

    with in_place(folder / TABLE) as fresh, pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for record in records:
            for name, values in columns.items():
                values.append(getattr(record, name))
            if len(columns["row"]) == _ROWS_A_GROUP:
                writer.write_table(group(columns))
                columns = {name: [] for name in schema.names}
        if columns["row"]:
            writer.write_table(group(columns))
    return _digest(folder / TABLE)


def table_records(folder: Path, manifest: Manifest) -> StoredRecords:
    """Its records.

    Raises:
        DataError: it is missing, damaged, or of another run.
    """

    def read() -> Iterator[Record]:
        for columns in _batches(folder, manifest):
            for values in zip(*columns.values(), strict=True):
                yield Record(**dict(zip(columns, values, strict=True)))

    with _table(folder, manifest) as file:
        count = file.metadata.num_rows
    return StoredRecords(count, read)


def table_keys(folder: Path, manifest: Manifest) -> Iterator[Key]:
    """The keys of its records.

    Raises:
        DataError: it is missing, damaged, or of another run.
    """
    for batch in _batches(folder, manifest, list(Key._fields)):
        yield from (Key(*values) for values in zip(*(batch[name] for name in Key._fields), strict=True))


def _batches(folder: Path, manifest: Manifest, columns: list[str] | None = None) -> Iterator[dict[str, list[Any]]]:
    with _table(folder, manifest) as file:
        for batch in file.iter_batches(batch_size=5_000, columns=columns):
            yield batch.to_pydict()


def _schema(manifest: Manifest) -> Any:
    import pyarrow as pa

    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    kinds = {
        **dict.fromkeys(("task", "split", "row"), pa.string()),
        "position": pa.int64(),
        **dict.fromkeys(("template", "method", "setting", "wording"), pa.string()),
        "options": texts,
        "scores": numbers,
        "chosen": pa.int64(),
        "gold": pa.list_(pa.int64()),
        "credits": numbers,
        "prediction": pa.string(),
        "references": texts,
        "shortened": pa.int64(),
        "cut": pa.int64(),
        "dropped": pa.int64(),
        "tied": pa.bool_(),
        "reason": pa.string(),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=name in ("chosen", "prediction")) for name, kind in kinds.items()],
        metadata={"obverse_run": str(VERSION), "fingerprint": manifest.digest()},
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _table(folder: Path, manifest: Manifest) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / TABLE
    try:
        # Parquet's own checksums leave out the heads of its pages, where a flipped bit can make rows vanish.
        if _digest(path) != manifest.files.get(TABLE):
            raise DataError("is damaged, or of another run: its checksum differs", where=str(path), mend=COPY)
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise DataError("the records of a finished run are missing", where=str(path), mend=COPY) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read: {str(error).splitlines()[0]}", where=str(path), mend=COPY) from None
