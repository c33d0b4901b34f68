//! Statements that concern the connection rather than the data, and those that would write.

use br_wire::postgres::{Fault, words};

/// What a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// For the engine, with the tag that ends its answer: the number of rows is added to SELECT.
    Query(&'static str),
    Begin,
    Commit,
    Rollback,
    RollbackTo,
    Set {
        name: String,
        value: String,
    },
    Reset(String),
    ResetAll,
    /// A setting.
    Show(String),
    DiscardAll,
    /// A prepared statement, or all.
    Deallocate(Option<String>),
    /// A cursor, or all.
    Close(Option<String>),
    /// A cursor and its query.
    Declare {
        name: String,
        query: String,
    },
    /// Rows of a cursor; nothing for all.
    Fetch {
        name: String,
        rows_max: Option<u32>,
    },
    /// Accepted, with its tag.
    Nothing(&'static str),
    Refused(Fault),
}

pub(super) fn command_of(sql: &str) -> Command {
    let words = words(sql, 6);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match word(0) {
        "explain" => Command::Query("EXPLAIN"),
        "begin" | "start" => begin(&words),
        "commit" | "end" => Command::Commit,
        "rollback" | "abort" if words.iter().any(|word| word == "to") => Command::RollbackTo,
        "rollback" | "abort" => Command::Rollback,
        "savepoint" => Command::Nothing("SAVEPOINT"),
        "release" => Command::Nothing("RELEASE"),
        "set" => set(sql),
        "reset" if word(1) == "all" => Command::ResetAll,
        "reset" => Command::Reset(word(1).to_owned()),
        "show" => show(&words),
        "discard" => Command::DiscardAll,
        "deallocate" => Command::Deallocate(named(word(if word(1) == "prepare" { 2 } else { 1 }))),
        "close" => Command::Close(named(word(1))),
        "declare" => declare(sql, word(1)),
        "fetch" => fetch(&words),
        "unlisten" => Command::Nothing("UNLISTEN"),
        "checkpoint" | "listen" | "notify" | "prepare" | "execute" | "move" | "call" | "do" | "load" | "lock" => {
            let what = word(0).to_uppercase();
            Command::Refused(Fault::new(
                "0A000",
                format!("{what} is not known here: only SELECT, EXPLAIN, SHOW and DESCRIBE are"),
            ))
        }
        first if WRITES.contains(&first) => {
            let what = first.to_uppercase();
            let message = format!("cannot execute {what} in a read-only transaction: SQL here reads and never writes");
            Command::Refused(Fault::new("25006", message))
        }
        // SELECT, VALUES, DESCRIBE and so on; of anything else the parser says what is wrong with it.
        _ => Command::Query("SELECT"),
    }
}

const WRITES: &[&str] = &[
    "insert", "update", "delete", "merge", "copy", "create", "alter", "drop", "truncate", "grant", "revoke", "comment", "vacuum",
    "analyze", "reindex", "cluster", "refresh", "import", "security", "reassign",
];

fn begin(words: &[String]) -> Command {
    let is_write = words.windows(2).any(|two| two[0] == "read" && two[1] == "write");
    if is_write {
        // As a server in recovery says it; drivers that insist on writing learn it here.
        return Command::Refused(Fault::new("25006", "cannot set transaction read-write mode: SQL here reads and never writes"));
    }
    Command::Begin
}

fn named(name: &str) -> Option<String> {
    (name != "all").then(|| name.to_owned())
}

fn set(sql: &str) -> Command {
    let all = words(sql, 64);
    let mut rest = all.get(1..).unwrap_or_default();
    if rest.first().is_some_and(|word| matches!(word.as_str(), "session" | "local")) && rest.len() > 1 {
        rest = &rest[1..];
    }
    match rest {
        [first, ..] if matches!(first.as_str(), "transaction" | "characteristics" | "constraints" | "role" | "authorization") => {
            match begin(rest) {
                Command::Begin => Command::Nothing("SET"),
                refused => refused,
            }
        }
        [first, second, values @ ..] if first == "time" && second == "zone" => {
            Command::Set { name: "timezone".to_owned(), value: values.join(" ") }
        }
        [name, to, values @ ..] if to == "to" => Command::Set { name: name.clone(), value: values.join(", ") },
        [name, values @ ..] if !values.is_empty() => Command::Set { name: name.clone(), value: values.join(", ") },
        _ => Command::Refused(Fault::new("42601", "SET takes a name and a value")),
    }
}

fn show(words: &[String]) -> Command {
    let name = words.get(1..).unwrap_or_default().join("_");
    match name.as_str() {
        "transaction_isolation_level" => Command::Show("transaction_isolation".to_owned()),
        "time_zone" => Command::Show("timezone".to_owned()),
        // Those of the engine: SHOW TABLES, SHOW COLUMNS FROM x, SHOW ALL.
        _ if name.starts_with("tables") || name.starts_with("columns") || name.starts_with("functions") || name == "all" => {
            Command::Query("SHOW")
        }
        _ => Command::Show(name),
    }
}

/// `DECLARE name … CURSOR … FOR query`.
fn declare(sql: &str, name: &str) -> Command {
    let lower = sql.to_ascii_lowercase();
    let is_blank = |at: usize| lower.as_bytes().get(at).is_some_and(u8::is_ascii_whitespace);
    let after = lower.find("cursor").unwrap_or(lower.len());
    let found = lower[after..].match_indices("for").map(|(at, _)| after + at).find(|at| is_blank(at - 1) && is_blank(at + 3));
    match found {
        Some(at) => Command::Declare { name: name.to_owned(), query: sql[at + 3..].to_owned() },
        None => Command::Refused(Fault::new("42601", "a cursor is declared as DECLARE name CURSOR FOR SELECT …")),
    }
}

/// `FETCH [FORWARD] [n | ALL | NEXT] [FROM | IN] name`.
fn fetch(words: &[String]) -> Command {
    let mut rest = words.get(1..).unwrap_or_default();
    let mut rows_max = Some(1);
    while let [first, others @ ..] = rest
        && !others.is_empty()
    {
        match first.as_str() {
            "forward" | "from" | "in" => {}
            "next" => rows_max = Some(1),
            "all" => rows_max = None,
            number => match number.parse() {
                Ok(number) => rows_max = Some(number),
                Err(_) => return Command::Refused(Fault::new("0A000", "a cursor here goes forward only")),
            },
        }
        rest = others;
    }
    match rest {
        [name] => Command::Fetch { name: name.clone(), rows_max },
        _ => Command::Refused(Fault::new("42601", "FETCH takes the name of a cursor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_drivers_are_known() {
        let set = |name: &str, value: &str| Command::Set { name: name.into(), value: value.into() };
        for (sql, expect) in [
            ("select 1", Command::Query("SELECT")),
            ("BEGIN READ ONLY", Command::Begin),
            ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", Command::Begin),
            ("ROLLBACK TO SAVEPOINT a", Command::RollbackTo),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET SESSION TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET search_path TO public, pg_catalog", set("search_path", "public, pg_catalog")),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Command::Nothing("SET")),
            ("show transaction isolation level", Command::Show("transaction_isolation".into())),
            ("SHOW TABLES", Command::Query("SHOW")),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("DEALLOCATE PREPARE \"a B\"", Command::Deallocate(Some("a B".into()))),
            ("FETCH FORWARD 20 FROM \"c\"", Command::Fetch { name: "c".into(), rows_max: Some(20) }),
            ("fetch all from c", Command::Fetch { name: "c".into(), rows_max: None }),
            ("fetch c", Command::Fetch { name: "c".into(), rows_max: Some(1) }),
            (
                "DECLARE \"c\" CURSOR WITHOUT HOLD FOR\nSELECT 1",
                Command::Declare { name: "c".into(), query: "\nSELECT 1".into() },
            ),
        ] {
            assert_eq!(command_of(sql), expect, "{sql}");
        }
        for (sql, state) in [
            ("INSERT INTO logs VALUES (1)", "25006"),
            ("/* x */ drop table logs", "25006"),
            ("COPY logs FROM STDIN", "25006"),
            ("BEGIN READ WRITE", "25006"),
            ("LISTEN x", "0A000"),
            ("FETCH BACKWARD 2 FROM c", "0A000"),
        ] {
            let Command::Refused(fault) = command_of(sql) else { panic!("{sql} is let through") };
            assert_eq!(fault.state, state, "{sql}");
        }
    }
}
