"""Untrusted parquet files, read with pyarrow: a few rows at a time, until they are too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmil.data.formats.hdf5 import need
from vmil.data.formats.source import MAX_SOURCE_BYTES
from vmil.errors import UserError

MAX_ROWS = 2**24  # of one file
BATCH = 64  # rows that are unpacked before their size is checked: a few bytes can unpack to any number


def read_parquet(path: Path, wanted: Callable[[str], bool], most_rows: int = MAX_ROWS) -> Any:
    """The wanted columns of a file as a table, bounded in size; UserError if it is missing or damaged."""
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    with sound(path), parquet.ParquetFile(path) as file:
        if file.metadata.num_rows > most_rows:
            raise UserError(f"{path} has more than {most_rows} rows and is not read")
        names = [name for name in file.schema_arrow.names if wanted(name)]
        batches, size = [], 0
        for batch in file.iter_batches(batch_size=BATCH, columns=names):
            size += batch.nbytes
            if size > MAX_SOURCE_BYTES:
                raise UserError(f"{path} unpacks to more than {MAX_SOURCE_BYTES >> 20} MiB and is not read")
            batches.append(batch)
        schema = batches[0].schema if batches else arrow.schema([file.schema_arrow.field(name) for name in names])
        table = arrow.Table.from_batches(batches, schema)
        table.validate(full=True)  # else damaged text is noticed only when it is read
        return table.combine_chunks()


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Whatever pyarrow cannot make sense of becomes a UserError that names the file."""
    arrow = need("pyarrow")
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise UserError(f"{path} is corrupt or truncated") from error
