"""Answers SQL over the tables of an index.

ask.py ENGINE INDEX STATEMENT            prints the answer as CSV
ask.py ENGINE INDEX --times N FILE       asks each statement of a JSON list N + 1 times and prints how long each took
"""

import csv
import json
import pathlib
import sys
import time


def duckdb_session(tables):
    import duckdb

    connection = duckdb.connect()
    for table in tables:
        connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM read_parquet('{table}/*.parquet')")

    def ask(statement):
        result = connection.execute(statement)
        return [column[0] for column in result.description], result.fetchall()

    return ask


def polars_session(tables):
    import polars

    context = polars.SQLContext({table.name: polars.scan_parquet(f"{table}/*.parquet") for table in tables})

    def ask(statement):
        frame = context.execute(statement, eager=True)
        return frame.columns, frame.rows()

    return ask


engine, index, *rest = sys.argv[1:]
tables = [table for table in (pathlib.Path(index) / "tables").iterdir() if any(table.iterdir())]
ask = {"duckdb": duckdb_session, "polars": polars_session}[engine](tables)
if rest[0] == "--times":
    for statement in json.loads(pathlib.Path(rest[2]).read_text()):
        for _ in range(int(rest[1]) + 1):
            begin = time.perf_counter()
            try:
                ask(statement)
                print(f"Time: {(time.perf_counter() - begin) * 1e3:.3f} ms")
            except Exception:
                print("Time: none ms")
else:
    columns, rows = ask(rest[0])
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    out.writerows(rows)
