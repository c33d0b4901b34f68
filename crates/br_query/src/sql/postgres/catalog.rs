//! What clients ask PostgreSQL's catalog: which tables and columns there are, and who one is.
//!
//! Made anew for each query that names something of it, from the tables of the caller's tenant: it can show nothing else. Columns
//! that nothing here knows are NULL, tables of things that do not exist here are empty.

use super::Identity;
use super::values::oid_of as type_of;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemTable, MemorySchemaProvider, SchemaProvider};
use datafusion::common::{DataFusionError, Result as SqlResult, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the database in which everything is.
pub(super) const DATABASE: &str = "bellrock";

/// Tables with their columns: `i` is a number, `t` a text, `b` a boolean, `a` a list of numbers, `l` one of texts; what stands behind `=` is the value where a row has none.
const TABLES: &[(&str, &str)] = &[
    ("pg_namespace", "oid:i nspname:t nspowner:i=10 nspacl:l"),
    (
        "pg_class",
        "oid:i relname:t relnamespace:i reltype:i=0 reloftype:i=0 relowner:i=10 relam:i=2 relfilenode:i=0 reltablespace:i=0 \
         relpages:i=0 reltuples:i=-1 relallvisible:i=0 reltoastrelid:i=0 relhasindex:b=false relisshared:b=false \
         relpersistence:t=p relkind:t=r relnatts:i relchecks:i=0 relhasrules:b=false relhastriggers:b=false \
         relhassubclass:b=false relrowsecurity:b=false relforcerowsecurity:b=false relispopulated:b=true relreplident:t=d \
         relispartition:b=false relrewrite:i=0 relacl:l reloptions:l relpartbound:t relhasoids:b=false",
    ),
    (
        "pg_attribute",
        "attrelid:i attname:t atttypid:i attstattarget:i=-1 attlen:i=-1 attnum:i attndims:i=0 atttypmod:i=-1 attnotnull:b \
         atthasdef:b=false atthasmissing:b=false attidentity:t= attgenerated:t= attisdropped:b=false attislocal:b=true \
         attinhcount:i=0 attcollation:i=0 attstorage:t=p attcompression:t= attacl:l attoptions:l attfdwoptions:l",
    ),
    (
        "pg_type",
        "oid:i typname:t typnamespace:i=11 typowner:i=10 typlen:i=-1 typbyval:b=false typtype:t=b typcategory:t=U \
         typispreferred:b=false typisdefined:b=true typdelim:t=, typrelid:i=0 typelem:i=0 typarray:i=0 typinput:t typoutput:t \
         typreceive:t typsend:t typnotnull:b=false typbasetype:i=0 typtypmod:i=-1 typndims:i=0 typcollation:i=0 typdefault:t",
    ),
    (
        "pg_database",
        "oid:i datname:t datdba:i=10 encoding:i=6 datlocprovider:t=c datistemplate:b=false datallowconn:b=true datconnlimit:i=-1 \
         dattablespace:i=1663 datcollate:t=C datctype:t=C daticulocale:t datlocale:t daticurules:t datacl:l",
    ),
    (
        "pg_roles",
        "oid:i=10 rolname:t rolsuper:b=false rolinherit:b=true rolcreaterole:b=false rolcreatedb:b=false rolcanlogin:b=true \
         rolreplication:b=false rolbypassrls:b=false rolconnlimit:i=-1 rolvaliduntil:t",
    ),
    ("pg_auth_members", "oid:i roleid:i member:i grantor:i admin_option:b"),
    ("pg_user", "usename:t usesysid:i=10 usesuper:b=false usecreatedb:b=false"),
    ("pg_tables", "schemaname:t=public tablename:t tableowner:t=bellrock tablespace:t hasindexes:b=false"),
    ("pg_settings", "name:t setting:t unit:t category:t short_desc:t"),
    ("pg_am", "oid:i amname:t amhandler:t amtype:t"),
    ("pg_description", "objoid:i classoid:i objsubid:i description:t"),
    ("pg_shdescription", "objoid:i classoid:i description:t"),
    ("pg_attrdef", "oid:i adrelid:i adnum:i adbin:t"),
    (
        "pg_constraint",
        "oid:i conname:t connamespace:i contype:t condeferrable:b condeferred:b convalidated:b conrelid:i contypid:i conindid:i \
         conparentid:i confrelid:i confupdtype:t confdeltype:t conkey:a confkey:a",
    ),
    (
        "pg_index",
        "indexrelid:i indrelid:i indnatts:i indnkeyatts:i indisunique:b indisprimary:b indisexclusion:b indisclustered:b \
         indisvalid:b indisreplident:b indkey:a indoption:a indexprs:t indpred:t indclass:a indcollation:a indnullsnotdistinct:b",
    ),
    ("pg_opclass", "oid:i opcname:t opcnamespace:i opcmethod:i opcfamily:i opcintype:i opcdefault:b opckeytype:i"),
    ("pg_operator", "oid:i oprname:t oprnamespace:i oprkind:t oprleft:i oprright:i oprresult:i oprcode:t"),
    ("pg_collation", "oid:i collname:t collnamespace:i collprovider:t collencoding:i"),
    ("pg_inherits", "inhrelid:i inhparent:i inhseqno:i inhdetachpending:b"),
    ("pg_proc", "oid:i proname:t pronamespace:i proowner:i prokind:t prorettype:i proargtypes:t"),
    ("pg_range", "rngtypid:i rngsubtype:i rngmultitypid:i"),
    ("pg_enum", "oid:i enumtypid:i enumsortorder:i enumlabel:t"),
    ("pg_sequence", "seqrelid:i seqtypid:i seqstart:i seqincrement:i seqmax:i seqmin:i seqcache:i seqcycle:b"),
    ("pg_policy", "oid:i polname:t polrelid:i polcmd:t polpermissive:b polroles:t polqual:t polwithcheck:t"),
    ("pg_trigger", "oid:i tgrelid:i tgname:t tgisinternal:b tgenabled:t tgparentid:i tgconstraint:i"),
    ("pg_rewrite", "oid:i rulename:t ev_class:i ev_type:t ev_enabled:t is_instead:b"),
    ("pg_statistic_ext", "oid:i stxrelid:i stxname:t stxnamespace:i stxkind:l stxstattarget:i stxkeys:a"),
    ("pg_publication", "oid:i pubname:t puballtables:b"),
    ("pg_publication_rel", "oid:i prpubid:i prrelid:i prqual:t prattrs:a"),
    ("pg_publication_namespace", "oid:i pnpubid:i pnnspid:i"),
    ("pg_partitioned_table", "partrelid:i partstrat:t partnatts:i"),
    ("pg_foreign_table", "ftrelid:i ftserver:i ftoptions:t"),
    ("pg_foreign_server", "oid:i srvname:t"),
    ("pg_extension", "oid:i extname:t extversion:t extnamespace:i"),
    ("pg_tablespace", "oid:i spcname:t spcowner:i"),
    ("pg_cursors", "name:t statement:t is_holdable:b is_binary:b is_scrollable:b"),
    ("pg_views", "schemaname:t viewname:t viewowner:t definition:t"),
    ("pg_matviews", "schemaname:t matviewname:t matviewowner:t definition:t"),
    ("pg_stat_activity", "pid:i datname:t usename:t state:t query:t"),
    ("pg_stat_user_tables", "relid:i schemaname:t relname:t n_live_tup:i"),
];

/// Name, object identifier, length, category, and the name in SQL.
const TYPES: &[(&str, i64, i64, &str, &str)] = &[
    ("bool", 16, 1, "B", "boolean"),
    ("bytea", 17, -1, "U", "bytea"),
    ("int8", 20, 8, "N", "bigint"),
    ("int2", 21, 2, "N", "smallint"),
    ("int4", 23, 4, "N", "integer"),
    ("text", 25, -1, "S", "text"),
    ("oid", 26, 4, "N", "oid"),
    ("json", 114, -1, "U", "json"),
    ("float4", 700, 4, "N", "real"),
    ("float8", 701, 8, "N", "double precision"),
    ("varchar", 1043, -1, "S", "character varying"),
    ("date", 1082, 4, "D", "date"),
    ("time", 1083, 8, "D", "time without time zone"),
    ("timestamp", 1114, 8, "D", "timestamp without time zone"),
    ("timestamptz", 1184, 8, "D", "timestamp with time zone"),
    ("interval", 1186, 16, "T", "interval"),
    ("numeric", 1700, -1, "N", "numeric"),
];

const NAMESPACES: &[(&str, i64)] = &[("pg_catalog", 11), ("public", 2200), ("information_schema", 13_000)];

pub(super) fn is_table(name: &str) -> bool {
    TABLES.iter().any(|(known, _)| *known == name)
}

/// Tables that have rows here.
const FILLED: &[&str] = &[
    "pg_am",
    "pg_attribute",
    "pg_class",
    "pg_database",
    "pg_namespace",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_type",
    "pg_user",
];

/// Whether a table of the catalog is of things that do not exist here.
pub(super) fn is_empty(name: &str) -> bool {
    is_table(name) && !FILLED.contains(&name)
}

/// The object identifier of a table: PostgreSQL's own for those that clients name by number, and of others one that stays.
pub(super) fn oid_of(table: &str) -> i64 {
    let name = table.rsplit('.').next().unwrap_or_default().trim_matches('"');
    match name {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_database" => 1262,
        "pg_constraint" => 2606,
        "pg_namespace" => 2615,
        // FNV-1a, above what PostgreSQL keeps for itself.
        _ => {
            let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            16_384 + i64::from(hash & 0x3fff_ffff)
        }
    }
}

/// Adds the functions, and the tables where the text may ask for one.
pub(super) async fn register(session: &SessionContext, sql: &str, identity: &Identity) -> SqlResult<()> {
    for function in functions(identity) {
        session.register_udf(function);
    }
    if !sql.to_ascii_lowercase().contains("pg_") {
        return Ok(());
    }
    let Some(catalog) = session.catalog(DATABASE) else { return Ok(()) };
    let rows = rows(&catalog, identity).await?;
    let schema = MemorySchemaProvider::new();
    for (name, columns) in TABLES {
        let table = table(columns, rows.get(name).map(Vec::as_slice).unwrap_or_default())?;
        schema.register_table((*name).to_owned(), Arc::new(table))?;
    }
    catalog.register_schema("pg_catalog", Arc::new(schema))?;
    Ok(())
}

/// A row by the names of its columns.
type Row = Vec<(&'static str, String)>;

async fn rows(catalog: &Arc<dyn CatalogProvider>, identity: &Identity) -> SqlResult<BTreeMap<&'static str, Vec<Row>>> {
    let mut rows: BTreeMap<&'static str, Vec<Row>> = BTreeMap::new();
    for (name, oid) in NAMESPACES {
        rows.entry("pg_namespace").or_default().push(vec![("oid", oid.to_string()), ("nspname", (*name).to_owned())]);
    }
    for (name, oid, length, category, _) in TYPES {
        rows.entry("pg_type").or_default().push(vec![
            ("oid", oid.to_string()),
            ("typname", (*name).to_owned()),
            ("typlen", length.to_string()),
            ("typcategory", (*category).to_owned()),
        ]);
    }
    for (name, _) in TABLES {
        let oid = oid_of(name).to_string();
        let class = vec![("oid", oid), ("relname", (*name).to_owned()), ("relnamespace", "11".to_owned())];
        rows.entry("pg_class").or_default().push(class);
    }
    rows.insert("pg_database", vec![vec![("oid", "1".to_owned()), ("datname", DATABASE.to_owned())]]);
    rows.insert("pg_roles", vec![vec![("rolname", identity.user.clone())]]);
    rows.insert("pg_user", vec![vec![("usename", identity.user.clone())]]);
    rows.insert("pg_am", vec![vec![("oid", "2".to_owned()), ("amname", "heap".to_owned()), ("amtype", "t".to_owned())]]);
    let settings = SETTINGS.iter().map(|(name, value)| vec![("name", (*name).to_owned()), ("setting", (*value).to_owned())]);
    rows.insert("pg_settings", settings.collect());
    let Some(public) = catalog.schema("public") else { return Ok(rows) };
    let mut names = public.table_names();
    names.sort();
    for name in names {
        let Some(table) = public.table(&name).await? else { continue };
        add_table(&mut rows, &name, &table.schema());
    }
    Ok(rows)
}

fn add_table(rows: &mut BTreeMap<&'static str, Vec<Row>>, name: &str, schema: &Schema) {
    let oid = oid_of(name).to_string();
    rows.entry("pg_class").or_default().push(vec![
        ("oid", oid.clone()),
        ("relname", name.to_owned()),
        ("relnamespace", "2200".to_owned()),
        ("relnatts", schema.fields().len().to_string()),
    ]);
    rows.entry("pg_tables").or_default().push(vec![("tablename", name.to_owned())]);
    for (at, field) in schema.fields().iter().enumerate() {
        rows.entry("pg_attribute").or_default().push(vec![
            ("attrelid", oid.clone()),
            ("attname", field.name().clone()),
            ("atttypid", type_of(field.data_type()).to_string()),
            ("attnum", (at + 1).to_string()),
            ("attnotnull", (!field.is_nullable()).to_string()),
        ]);
    }
}

fn table(columns: &str, rows: &[Row]) -> SqlResult<MemTable> {
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for column in columns.split_whitespace() {
        let (column, default) = column.split_once('=').map_or((column, None), |(column, value)| (column, Some(value)));
        let (name, kind) = column.split_once(':').unwrap_or((column, "t"));
        let values = rows.iter().map(|row| {
            let own = row.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            own.or(default)
        });
        let (data_type, array): (DataType, ArrayRef) = match kind {
            "i" => (DataType::Int64, Arc::new(values.map(|value| value?.parse::<i64>().ok()).collect::<Int64Array>())),
            "a" | "l" => {
                let list = DataType::new_list(if kind == "a" { DataType::Int64 } else { DataType::Utf8 }, true);
                (list.clone(), new_null_array(&list, rows.len()))
            }
            "b" => (DataType::Boolean, Arc::new(values.map(|value| value?.parse::<bool>().ok()).collect::<BooleanArray>())),
            _ => (DataType::Utf8, Arc::new(values.collect::<StringArray>())),
        };
        fields.push(Field::new(name, data_type, true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    MemTable::try_new(schema.clone(), vec![vec![RecordBatch::try_new(schema, arrays)?]])
}

/// What `SHOW` and `current_setting` say where a client has set nothing else.
pub const SETTINGS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "1"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", super::SERVER_VERSION),
    ("server_version_num", "140000"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "UTC"),
    ("transaction_isolation", "repeatable read"),
    ("transaction_read_only", "on"),
];

fn functions(identity: &Identity) -> Vec<ScalarUDF> {
    let text = |value: &str| Answer::Constant(ScalarValue::Utf8(Some(value.to_owned())));
    let mut all = vec![
        ("version", text(&format!("PostgreSQL {} (Bellrock {})", super::SERVER_VERSION, identity.version))),
        ("current_schema", text("public")),
        ("current_database", text(DATABASE)),
        ("current_catalog", text(DATABASE)),
        ("pg_encoding_to_char", text("UTF8")),
        ("pg_get_userbyid", text(&identity.user)),
        ("pg_backend_pid", Answer::Constant(ScalarValue::Int32(Some(identity.process)))),
        ("pg_my_temp_schema", Answer::Constant(ScalarValue::Int64(Some(0)))),
        ("format_type", Answer::FormatType),
        ("quote_ident", Answer::QuoteIdent),
        ("current_setting", Answer::Setting),
        ("to_regclass", Answer::ToRegclass),
        ("to_regtype", Answer::ToRegtype),
    ];
    for name in ["current_user", "session_user", "current_role", "user"] {
        all.push((name, text(&identity.user)));
    }
    for name in ["pg_is_in_recovery", "pg_is_other_temp_schema", "row_security_active", "pg_relation_is_publishable"] {
        all.push((name, Answer::Constant(ScalarValue::Boolean(Some(false)))));
    }
    for name in [
        "pg_table_is_visible",
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_collation_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_statistics_obj_is_visible",
        "has_table_privilege",
        "has_any_column_privilege",
        "has_column_privilege",
        "has_schema_privilege",
        "has_database_privilege",
    ] {
        all.push((name, Answer::Constant(ScalarValue::Boolean(Some(true)))));
    }
    for name in ["pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_database_size"] {
        all.push((name, Answer::Constant(ScalarValue::Int64(None))));
    }
    for name in [
        "obj_description",
        "col_description",
        "shobj_description",
        "pg_get_expr",
        "pg_get_constraintdef",
        "pg_get_indexdef",
        "pg_get_viewdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_partkeydef",
        "pg_get_function_result",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_functiondef",
        "pg_get_triggerdef",
        "pg_get_ruledef",
        "pg_get_serial_sequence",
        "pg_size_pretty",
        "json_build_object",
    ] {
        all.push((name, Answer::Constant(ScalarValue::Utf8(None))));
    }
    all.into_iter().map(|(name, answer)| ScalarUDF::new_from_impl(Function::new(name, answer))).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Constant(ScalarValue),
    FormatType,
    QuoteIdent,
    Setting,
    ToRegclass,
    ToRegtype,
}

/// A function that takes whatever it is given.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

impl Function {
    fn new(name: &'static str, answer: Answer) -> Self {
        let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
        Self { name, answer, signature: Signature::new(any, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> SqlResult<DataType> {
        Ok(match &self.answer {
            Answer::Constant(value) => value.data_type(),
            Answer::ToRegclass | Answer::ToRegtype => DataType::Int64,
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> SqlResult<ColumnarValue> {
        let of_text: fn(&str) -> ScalarValue = match &self.answer {
            Answer::Constant(value) => return Ok(ColumnarValue::Scalar(value.clone())),
            Answer::FormatType => |oid| {
                let found = TYPES.iter().find(|known| known.1.to_string() == oid);
                ScalarValue::Utf8(Some(found.map_or("???", |known| known.4).to_owned()))
            },
            Answer::QuoteIdent => |name| ScalarValue::Utf8(Some(quote_ident(name))),
            Answer::Setting => |name| {
                let name = name.to_ascii_lowercase();
                let found = SETTINGS.iter().find(|(known, _)| *known == name);
                ScalarValue::Utf8(found.map(|(_, value)| (*value).to_owned()))
            },
            Answer::ToRegclass => |name| ScalarValue::Int64(Some(oid_of(name))),
            Answer::ToRegtype => |name| {
                let found = TYPES.iter().find(|known| known.0 == name || known.4 == name);
                ScalarValue::Int64(found.map(|known| known.1))
            },
        };
        let Some(first) = args.args.first() else {
            return Err(DataFusionError::Plan(format!("{} takes an argument", self.name)));
        };
        let answer = |value: &ScalarValue| -> SqlResult<ScalarValue> {
            match value.cast_to(&DataType::Utf8)? {
                ScalarValue::Utf8(Some(text)) => Ok(of_text(&text)),
                _ => ScalarValue::try_from(&self.return_type(&[])?),
            }
        };
        match first {
            ColumnarValue::Scalar(value) => Ok(ColumnarValue::Scalar(answer(value)?)),
            ColumnarValue::Array(array) => {
                let values = (0..array.len()).map(|at| answer(&ScalarValue::try_from_array(array, at)?));
                let values = values.collect::<SqlResult<Vec<_>>>()?;
                if values.is_empty() {
                    return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.return_type(&[])?)));
                }
                Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
            }
        }
    }
}

fn quote_ident(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
