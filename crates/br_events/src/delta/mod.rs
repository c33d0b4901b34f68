//! The log of a Delta Lake table over the files of a table here, for readers that know that format and not ours.
//!
//! The catalog is the truth, this is a copy of what it says. Source: the Delta transaction log protocol, reader version 1.

mod checkpoint;

use crate::attributes::{BOOL, DOUBLE, INT, STRING, promoted_name};
use crate::promote::Promotion;
use crate::schema::{LOGS, SPANS};
use crate::stored::to_stored;
use crate::summary::FileStats;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{FileEntry, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Columns that the table may have in all: those of attributes that come later are not told of.
const COLUMNS_MAX: usize = 2000;
/// What a checkpoint may not hold in the name of a column.
const NAME_SIGNS_REFUSED: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// A column of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column {
    name: String,
    /// In Delta's words.
    kind: String,
    nullable: bool,
}

/// What the log has told of the table so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaTable {
    /// The newest version; `None` before the first.
    pub version: Option<u64>,
    /// The change of the catalog's manifest that it is up to.
    pub change: i64,
    id: String,
    name: String,
    created_ms: i64,
    columns: Vec<Column>,
}

/// Where the log of a table is, under the folder of its files.
pub fn log_folder(tenant: TenantId, table: Table) -> String {
    format!("{}_delta_log/", table_folder(tenant, table))
}

fn table_folder(tenant: TenantId, table: Table) -> String {
    format!("events/{}/{}/", tenant.0, table.as_str())
}

impl DeltaTable {
    /// A table of which nothing was told yet.
    pub fn new(tenant: TenantId, table: Table, now: Nanos) -> Result<Self> {
        let made = format!("{}{}", table_folder(tenant, table), now.0);
        let (high, low) = (br_std::hash::hash64(made.as_bytes()), br_std::hash::hash64(format!("{made}/").as_bytes()));
        let id = uuid_of(high, low);
        let (name, created_ms) = (table.as_str().to_owned(), now.as_millis());
        Ok(Self { version: None, change: 0, id, name, created_ms, columns: fixed_columns(table)? })
    }

    pub fn next_version(&self) -> u64 {
        self.version.map_or(0, |version| version + 1)
    }

    /// The object of a version.
    pub fn object(version: u64) -> String {
        format!("{version:020}.json")
    }

    pub fn checkpoint_object(version: u64) -> String {
        format!("{version:020}.checkpoint.parquet")
    }

    /// The table after the next version, and what that version says.
    pub fn commit(&self, change: i64, added: &[FileEntry], removed: &[FileEntry], now: Nanos) -> Result<(Self, String)> {
        let mut next = Self { version: Some(self.next_version()), change, ..self.clone() };
        for file in added {
            next.learn(file)?;
        }
        let mut actions = vec![json!({"commitInfo": {
            "timestamp": now.as_millis(),
            "operation": "WRITE",
            "operationParameters": {},
            "isBlindAppend": removed.is_empty(),
            "engineInfo": concat!("bellrock/", env!("CARGO_PKG_VERSION")),
            CHANGE_KEY: change,
        }})];
        if self.version.is_none() {
            actions.push(json!({"protocol": protocol()}));
        }
        if self.version.is_none() || next.columns != self.columns {
            actions.push(json!({"metaData": next.meta_data()?}));
        }
        // What a merge takes out and puts in are the same rows.
        let is_merge = added.iter().any(|file| file.level > 0);
        for file in removed {
            actions.push(json!({"remove": {
                "path": path_of(file),
                "deletionTimestamp": now.as_millis(),
                "dataChange": !is_merge,
                "extendedFileMetadata": true,
                "partitionValues": {},
                "size": file.size_bytes,
            }}));
        }
        for file in added {
            actions.push(json!({"add": {
                "path": path_of(file),
                "partitionValues": {},
                "size": file.size_bytes,
                "modificationTime": file.max_time.as_millis(),
                "dataChange": file.level == 0,
                "stats": stats_of(file),
            }}));
        }
        let mut text = String::new();
        for action in actions {
            text.push_str(&action.to_string());
            text.push('\n');
        }
        Ok((next, text))
    }

    /// The table after a version that was written by an earlier try, with the paths that it added; `None` when it is none of ours.
    pub fn adopt(&self, tenant: TenantId, table: Table, text: &str) -> Option<(Self, Vec<String>)> {
        let mut next = Self { version: Some(self.next_version()), ..self.clone() };
        let (mut change, mut added) = (None, Vec::new());
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).ok()?;
            change = change.or_else(|| action.get("commitInfo")?.get(CHANGE_KEY)?.as_i64());
            if let Some(meta_data) = action.get("metaData") {
                next.columns = columns_of(meta_data.get("schemaString")?.as_str()?)?;
            }
            if let Some(path) = action.get("add").and_then(|add| add.get("path")?.as_str()) {
                added.push(format!("{}{path}", table_folder(tenant, table)));
            }
        }
        next.change = change?;
        Some((next, added))
    }

    /// A checkpoint of the newest version: `live` are all files of the table then.
    pub fn checkpoint(&self, live: &[FileEntry]) -> Result<Vec<u8>> {
        checkpoint::write(&self.meta_data()?, live)
    }

    /// What says that there is a checkpoint.
    pub fn last_checkpoint(&self, live: usize) -> String {
        json!({"version": self.version, "size": live + 2}).to_string()
    }

    fn learn(&mut self, file: &FileEntry) -> Result<()> {
        let stats = FileStats::parse(&file.stats).map_err(|error| error.context(&file.path))?;
        for (key, letter, _) in stats.keys.iter().take(stats.columns) {
            let letter = *letter as u8;
            let column = Column { name: promoted_name(key, letter), kind: kind_of_letter(letter).to_owned(), nullable: true };
            // Names that differ in case alone are one name for some readers.
            let is_known = self.columns.iter().any(|known| known.name.to_lowercase() == column.name.to_lowercase());
            if !is_known && !column.name.contains(NAME_SIGNS_REFUSED) && self.columns.len() < COLUMNS_MAX {
                self.columns.push(column);
            }
        }
        Ok(())
    }

    fn meta_data(&self) -> Result<Value> {
        let fields: Vec<Value> = self
            .columns
            .iter()
            .map(|column| {
                let kind = match column.kind.as_str() {
                    MAP => json!({"type": "map", "keyType": "string", "valueType": "string", "valueContainsNull": true}),
                    kind => json!(kind),
                };
                json!({"name": column.name, "type": kind, "nullable": column.nullable, "metadata": {}})
            })
            .collect();
        let schema = serde_json::to_string(&json!({"type": "struct", "fields": fields}));
        Ok(json!({
            "id": self.id,
            "name": self.name,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.map_err(|error| Error::corrupt(error.to_string()))?,
            "partitionColumns": [],
            "configuration": {},
            "createdTime": self.created_ms,
        }))
    }
}

const CHANGE_KEY: &str = "bellrockChange";
const MAP: &str = "map";

fn protocol() -> Value {
    json!({"minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION})
}

const READER_VERSION: i32 = 1;
const WRITER_VERSION: i32 = 2;

fn uuid_of(high: u64, low: u64) -> String {
    let hex = format!("{high:016x}{low:016x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The path of a file within the table's folder: digits, a slash, hexadecimal digits.
fn path_of(file: &FileEntry) -> &str {
    file.path.strip_prefix(&table_folder(file.tenant, file.table)).unwrap_or(&file.path)
}

fn stats_of(file: &FileEntry) -> String {
    json!({"numRecords": file.rows}).to_string()
}

/// The columns that each file has.
fn fixed_columns(table: Table) -> Result<Vec<Column>> {
    let narrow = if table == Table::Spans { &SPANS } else { &LOGS };
    let wide = RecordBatch::new_empty(Promotion::default().schema(narrow));
    let fields = to_stored(&wide)?.schema();
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        kind: kind_of(field.data_type()).to_owned(),
        nullable: field.is_nullable(),
    };
    Ok(fields.fields().iter().map(column).collect())
}

fn kind_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "timestamp",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float64 => "double",
        DataType::Boolean => "boolean",
        DataType::Binary | DataType::FixedSizeBinary(_) => "binary",
        DataType::Map(..) => MAP,
        _ => "string",
    }
}

fn kind_of_letter(letter: u8) -> &'static str {
    match letter {
        INT => "long",
        DOUBLE => "double",
        BOOL => "boolean",
        _ => {
            debug_assert_eq!(letter, STRING);
            "string"
        }
    }
}

/// Columns as a schema tells them.
fn columns_of(schema: &str) -> Option<Vec<Column>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let column = |field: &Value| {
        let kind = field.get("type")?;
        let kind = kind.as_str().map_or(MAP, |kind| kind).to_owned();
        Some(Column { name: field.get("name")?.as_str()?.to_owned(), kind, nullable: field.get("nullable")?.as_bool()? })
    };
    schema.get("fields")?.as_array()?.iter().map(column).collect()
}
