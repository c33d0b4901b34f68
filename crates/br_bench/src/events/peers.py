"""Asks one engine over Parquet files what is in a file of questions, each once to warm up and five times more.

Usage: peers.py duckdb|chdb QUESTIONS.json
The last line of the output is a JSON list with the median milliseconds, the mean CPU time in milliseconds, the number of rows and the first value of each answer.
A question is SQL with a few words that differ between the engines: @table, @hex(..), @match(text, 'regex'), @hour(time),
@time(seconds), @quantile(part, value), @attribute(key:type).
"""

import json
import re
import statistics
import sys
import time

ROUNDS = 5


class DuckDb:
    def __init__(self, folder):
        import duckdb

        self.connection = duckdb.connect()
        for setting in ("set parquet_metadata_cache = true", "set enable_progress_bar = false", "set timezone = 'UTC'"):
            try:
                self.connection.execute(setting)
            except duckdb.Error:
                pass
        self.table = f"read_parquet('{folder}/*.parquet', union_by_name = true)"
        names = f"select file_name, name from parquet_schema('{folder}/*.parquet')"
        self.columns = {}
        for file, name in self.connection.execute(names).fetchall():
            self.columns.setdefault(name, set()).add(file)
        self.files = len(set().union(*self.columns.values()))

    def run(self, sql):
        rows = self.connection.execute(sql).fetchall()
        return len(rows), rows[0][0] if rows else None

    words = {
        "hex": lambda digits: f"from_hex('{digits}')",
        "match": lambda text, regex: f"regexp_matches({text}, {regex})",
        "hour": lambda column: f"(epoch_us({column}::timestamptz) // 3600000000)",
        "time": lambda seconds: f"to_timestamp({seconds})",
        "quantile": lambda part, value: f"quantile_cont({value}, {part})",
    }
    number = staticmethod(lambda text: f"try_cast({text} as bigint)")


class ChDb:
    def __init__(self, folder):
        from chdb import session

        self.session = session.Session()
        self.table = f"file('{folder}/*.parquet', 'Parquet')"
        self.settings = " settings schema_inference_mode = 'union'"
        metadata = f"select arrayMap(c -> c.1, columns) as names from file('{folder}/*.parquet', 'ParquetMetadata')"
        files = json.loads(str(self.session.query(metadata, "JSONCompact")))["data"]
        self.files, self.columns = len(files), {}
        for file, (names,) in enumerate(files):
            for name in names:
                self.columns.setdefault(name, set()).add(file)

    def run(self, sql):
        answer = json.loads(str(self.session.query(sql + self.settings, "JSONCompact")))
        first = answer["data"][0][0] if answer["data"] else None
        return answer["rows"], int(first) if isinstance(first, str) and first.isdigit() else first

    words = {
        "hex": lambda digits: f"unhex('{digits}')",
        "match": lambda text, regex: f"match({text}, {regex})",
        "hour": lambda column: f"toStartOfHour({column})",
        "time": lambda seconds: f"toDateTime64({seconds}, 3, 'UTC')",
        "quantile": lambda part, value: f"quantileExactInclusive({part})({value})",
    }
    number = staticmethod(lambda text: f"toInt64OrNull({text})")


def attribute(engine, key, letter):
    """A column of its own where the files have it, else an entry of the map."""
    column, entry = f'"a:{key}:{letter}"', f"attributes['{key}']"
    if letter == "i":
        entry = engine.number(entry)
    with_it = len(engine.columns.get(f"a:{key}:{letter}", ()))
    if with_it == engine.files:
        return column
    return f"coalesce({column}, {entry})" if with_it else entry


def translated(engine, sql):
    sql = sql.replace("@table", engine.table)
    sql = re.sub(r"@attribute\(([^:()]+):(\w)\)", lambda found: attribute(engine, *found.groups()), sql)
    # No argument has a parenthesis but a regular expression in quotes and the column of an attribute.
    for name, write in engine.words.items():
        pattern = rf"@{name}\(((?:[^()'\"]|'[^']*'|\"[^\"]*\"|\([^()]*(?:\([^()]*\))?[^()]*\))*)\)"
        sql = re.sub(pattern, lambda found, write=write: write(*arguments(found.group(1))), sql)
    return sql


def arguments(text):
    """The first one ends at the first comma."""
    return [part.strip() for part in text.split(",", 1)]


def ask(engine, sql):
    try:
        rows, first = engine.run(sql)
        times, cpu = [], time.process_time()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            engine.run(sql)
            times.append((time.perf_counter() - started) * 1000)
        cpu = (time.process_time() - cpu) * 1000 / ROUNDS
        return {"ms": statistics.median(times), "cpu_ms": cpu, "rows": rows, "first": first if isinstance(first, int) else None}
    except Exception as error:  # whatever an engine complains of is told, and the next question asked
        return {"error": f"{type(error).__name__}: {error}", "sql": sql}


def main():
    with open(sys.argv[2]) as file:
        asked = json.load(file)
    engine = {"duckdb": DuckDb, "chdb": ChDb}[sys.argv[1]](asked["files"])
    print(json.dumps([ask(engine, translated(engine, question["sql"])) for question in asked["questions"]]))


main()
