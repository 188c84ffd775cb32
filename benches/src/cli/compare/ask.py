"""Answers one statement over the tables of an index as CSV. Arguments: the index and the statement."""

import csv
import pathlib
import sys

import duckdb

index, statement = sys.argv[1:]
connection = duckdb.connect()
for table in (pathlib.Path(index) / "tables").iterdir():
    if any(table.iterdir()):
        connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM read_parquet('{table}/*.parquet')")
result = connection.execute(statement)
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow(column[0] for column in result.description)
out.writerows(result.fetchall())
