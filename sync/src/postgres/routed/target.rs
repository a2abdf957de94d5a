//! A table of a route as it was found in the catalog, and the statement that writes to it. Knows no row.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::fault::{Problem, RouteFault};
use crate::postgres::error::Error;
use crate::route::table_name::identifier;
use crate::route::{ColumnType, Mode, Route};

const TABLE: &str = "
    SELECT pg_class.oid, relkind::text, relpersistence = 'u', current_user::text,
        has_schema_privilege(relnamespace, 'USAGE'),
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgdeferrable)
            OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND condeferrable)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname = $2";

/// Of each column of the route: its type with and without its length, whether PostgreSQL turns a value of the route's
/// type into it unasked, what may be done with it, and as what its values can be compared. A value of a domain is one of
/// its type first. Texts are read as all kinds of texts and enumerations, but for those that would be cut.
const COLUMNS: &str = "
    SELECT format_type(atttypid, atttypmod), format_type(base.oid, -1),
        base.typname NOT IN ('name', 'char') AND (base.oid = wanted.type::regtype
            OR EXISTS (SELECT FROM pg_cast
                WHERE castsource = wanted.type::regtype AND casttarget = base.oid AND castcontext = 'i')
            OR (wanted.type = 'text' AND base.typcategory IN ('S', 'E'))
            OR (wanted.type = 'jsonb' AND base.oid = 'json'::regtype)),
        attnotnull, attgenerated <> '' OR attidentity = 'a',
        has_column_privilege($1, attnum, 'INSERT'), has_column_privilege($1, attnum, 'UPDATE'),
        has_column_privilege($1, attnum, 'SELECT'),
        CASE WHEN base.oid = 'json'::regtype THEN 'jsonb' ELSE format_type(base.oid,
            CASE WHEN pg_type.typtype = 'd' THEN pg_type.typtypmod ELSE atttypmod END) END
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (name, type, number)
    LEFT JOIN pg_attribute ON attrelid = $1 AND attname = wanted.name AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_type AS base
        ON base.oid = CASE WHEN pg_type.typtype = 'd' THEN pg_type.typbasetype ELSE pg_type.oid END
    ORDER BY wanted.number";

const UNFILLED: &str = "
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
        AND attname <> ALL ($2)
    ORDER BY attnum";

/// An index is of use to ON CONFLICT if it is of just these columns.
const INDEX: &str = "
    SELECT EXISTS (SELECT FROM pg_index
        WHERE indrelid = $1 AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL
            AND (SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
                WHERE attrelid = indrelid AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])) = $2)";

/// Whether the user may make a table in the schema, or the schema itself if it is not there.
const MAY_CREATE: &str = "
    SELECT current_user::text, current_database()::text, pg_namespace.oid IS NOT NULL,
        CASE WHEN pg_namespace.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(pg_namespace.oid, 'CREATE') END
    FROM (SELECT $1::text AS name) AS wanted LEFT JOIN pg_namespace ON nspname = wanted.name";

/// A table that is as its route needs it.
#[derive(Debug)]
pub(in crate::postgres) struct Target {
    /// Takes one array for each column of the route.
    pub(super) statement: String,
    /// Of these arrays.
    pub(super) types: Vec<Type>,
    /// What the values of each column are made before they are compared.
    pub(super) compared_as: Vec<String>,
    /// Whether something in the table may only be checked when the transaction ends.
    pub(super) defers: bool,
}

/// A column of the table.
struct Found {
    /// As people write it.
    whole_type: String,
    /// Without its length, to which PostgreSQL would cut a value that is made such a type.
    bare_type: String,
    fits: bool,
    not_null: bool,
    is_generated: bool,
    may_insert: bool,
    may_update: bool,
    may_select: bool,
    compared_as: String,
}

/// Looks at a route's table. Takes no lock on it.
pub(super) async fn look(
    transaction: &Transaction<'_>,
    route: &Route,
) -> Result<Result<Target, Vec<RouteFault>>, Error> {
    let name = [
        (&route.table.schema as _, Type::TEXT),
        (&route.table.table as _, Type::TEXT),
    ];
    let Some(table) = transaction.query_typed_opt(TABLE, &name).await? else {
        let mut faults = vec![RouteFault::no_table(route)];
        if route.creates_table {
            faults.extend(lacking_right_to_create(transaction, route).await?);
        }
        return Ok(Err(faults));
    };
    let oid: u32 = table.try_get(0)?;
    let user: String = table.try_get(3)?;
    let kind: String = table.try_get(1)?;
    let mut faults = Vec::new();
    if let Some(kind) = other_kind(&kind) {
        let table = route.table.to_string();
        return Ok(Err(vec![RouteFault::new(
            route,
            Problem::NotATable { table, kind },
        )]));
    }
    if table.try_get(2)? {
        let table = route.table.to_string();
        faults.push(RouteFault::new(route, Problem::Unlogged { table }));
    }
    if !table.try_get::<_, bool>(4)? {
        faults.push(RouteFault::missing_usage(route, &user));
    }
    let found = columns(transaction, route, oid).await?;
    faults.extend(faults_of_columns(route, &found));
    let lacking = lacking_rights(route, &found);
    if !lacking.is_empty() {
        faults.push(RouteFault::missing_rights(route, &user, &lacking));
    }
    let names: Vec<_> = route.columns.iter().map(|column| column.name.as_str()).collect();
    let filled: [(&(dyn ToSql + Sync), Type); 2] = [(&oid, Type::OID), (&names, Type::TEXT_ARRAY)];
    for row in transaction.query_typed(UNFILLED, &filled).await? {
        let (table, column) = (route.table.to_string(), row.try_get(0)?);
        faults.push(RouteFault::new(route, Problem::Unfilled { table, column }));
    }
    if !has_index(transaction, route, oid).await? {
        faults.push(RouteFault::no_index(route));
    }
    if !faults.is_empty() {
        return Ok(Err(faults));
    }
    let types: Vec<_> = found
        .iter()
        .flatten()
        .map(|found| found.bare_type.as_str())
        .collect();
    let compared_as = found.iter().flatten().map(|found| found.compared_as.clone());
    Ok(Ok(Target {
        compared_as: compared_as.collect(),
        statement: statement(route, &types),
        types: route.columns.iter().map(|column| array_of(column.of)).collect(),
        defers: table.try_get(5)?,
    }))
}

/// What keeps the mirror from making the table of a route.
async fn lacking_right_to_create(
    transaction: &Transaction<'_>,
    route: &Route,
) -> Result<Option<RouteFault>, Error> {
    let schema = [(&route.table.schema as _, Type::TEXT)];
    let row = transaction.query_typed_one(MAY_CREATE, &schema).await?;
    let (user, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (has_schema, may_create): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
    Ok((!may_create).then(|| match has_schema {
        true => RouteFault::missing_create_in_schema(route, &user),
        false => RouteFault::missing_create_in_database(route, &user, &database),
    }))
}

/// What it is if it is no table that keeps its rows. Whatever is elsewhere is not written in the mirror's transaction.
fn other_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "r" | "p" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        "S" => Some("a sequence"),
        _ => Some("no table"),
    }
}

async fn columns(
    transaction: &Transaction<'_>,
    route: &Route,
    oid: u32,
) -> Result<Vec<Option<Found>>, Error> {
    let names: Vec<_> = route.columns.iter().map(|column| column.name.as_str()).collect();
    let types: Vec<_> = route.columns.iter().map(|column| column.of.name()).collect();
    let asked: [(&(dyn ToSql + Sync), Type); 3] = [
        (&oid, Type::OID),
        (&names, Type::TEXT_ARRAY),
        (&types, Type::TEXT_ARRAY),
    ];
    let rows = transaction.query_typed(COLUMNS, &asked).await?;
    rows.iter().map(read_column).collect()
}

fn read_column(row: &Row) -> Result<Option<Found>, Error> {
    let Some(whole_type) = row.try_get(0)? else {
        return Ok(None);
    };
    Ok(Some(Found {
        whole_type,
        bare_type: row.try_get(1)?,
        fits: row.try_get(2)?,
        not_null: row.try_get(3)?,
        is_generated: row.try_get(4)?,
        may_insert: row.try_get(5)?,
        may_update: row.try_get(6)?,
        may_select: row.try_get(7)?,
        compared_as: row.try_get(8)?,
    }))
}

fn faults_of_columns(route: &Route, found: &[Option<Found>]) -> Vec<RouteFault> {
    let fault = |(column, found): (&crate::route::Column, &Option<Found>)| {
        let Some(found) = found else {
            return Some(RouteFault::no_column(route, column));
        };
        let (table, name) = (route.table.to_string(), column.name.clone());
        let problem = if found.is_generated {
            Problem::Generated { table, column: name }
        } else if !found.fits {
            Problem::Type {
                table,
                column: name,
                found: found.whole_type.clone(),
                wanted: column.of,
            }
        } else if found.not_null && column.may_be_null() {
            Problem::NotNull { table, column: name }
        } else {
            return None;
        };
        Some(RouteFault::new(route, problem))
    };
    route.columns.iter().zip(found).filter_map(fault).collect()
}

/// Rights that some column lacks, with commas between them. ON CONFLICT reads what it compares and what it takes over.
fn lacking_rights(route: &Route, found: &[Option<Found>]) -> String {
    let found = || found.iter().flatten();
    let upserts = route.mode != Mode::Insert;
    let set = || {
        (0..)
            .zip(found())
            .filter(|(at, _)| !route.is_key(*at))
            .map(|(_, found)| found)
    };
    let lacking = [
        ("INSERT", found().all(|found| found.may_insert)),
        ("SELECT", !upserts || found().all(|found| found.may_select)),
        ("UPDATE", !upserts || set().all(|found| found.may_update)),
    ];
    let lacking = lacking
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(right, _)| *right);
    lacking.collect::<Vec<_>>().join(", ")
}

async fn has_index(transaction: &Transaction<'_>, route: &Route, oid: u32) -> Result<bool, Error> {
    let mut key: Vec<_> = route.key_columns().map(|column| column.name.as_str()).collect();
    if key.is_empty() {
        return Ok(true);
    }
    key.sort_unstable();
    let asked: [(&(dyn ToSql + Sync), Type); 2] = [(&oid, Type::OID), (&key, Type::TEXT_ARRAY)];
    Ok(transaction.query_typed_one(INDEX, &asked).await?.try_get(0)?)
}

/// Writes one row for each element of the arrays; with a key, one for each key, the last. Which keys are alike is for
/// PostgreSQL to say, by the types that they have in the table.
fn statement(route: &Route, types: &[&str]) -> String {
    let table = route.table.to_sql();
    let numbers = 1..=route.columns.len();
    let list = |item: &dyn Fn(usize) -> String| numbers.clone().map(item).collect::<Vec<_>>().join(", ");
    let names = list(&|n| identifier(&route.columns[n - 1].name));
    let values = list(&|n| format!("c{n}"));
    let events = events(route, types);
    let Mode::Upsert { key } = &route.mode else {
        return format!("INSERT INTO {table} ({names}) SELECT {values} FROM ({events}) AS event");
    };
    let key_values: Vec<_> = key.iter().map(|at| format!("c{}", at + 1)).collect();
    let key_values = key_values.join(", ");
    let key_names: Vec<_> = route
        .key_columns()
        .map(|column| identifier(&column.name))
        .collect();
    let set: Vec<_> = (0..route.columns.len())
        .filter(|at| !route.is_key(*at))
        .map(|at| identifier(&route.columns[at].name))
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let action = match &set[..] {
        [] => "NOTHING".to_owned(),
        set => format!("UPDATE SET {}", set.join(", ")),
    };
    format!(
        "INSERT INTO {table} ({names}) SELECT {values} FROM (SELECT DISTINCT ON ({key_values}) {values} FROM \
         ({events}) AS event \
         ORDER BY {key_values}, n DESC) AS last ON CONFLICT ({}) DO {action}",
        key_names.join(", ")
    )
}

/// The values of events, from one array for each column of the route, as these types and with the events' order `n`.
pub(super) fn events(route: &Route, types: &[&str]) -> String {
    let numbers = 1..=route.columns.len();
    let list = |item: &dyn Fn(usize) -> String| numbers.clone().map(item).collect::<Vec<_>>().join(", ");
    let values = list(&|n| format!("c{n}"));
    let typed = list(&|n| format!("c{n}::{}::{} AS c{n}", route.columns[n - 1].of, types[n - 1]));
    let arrays = list(&|n| format!("${n}::{}[]", sent_as(route.columns[n - 1].of)));
    format!("SELECT {typed}, n FROM unnest({arrays}) WITH ORDINALITY AS event ({values}, n)")
}

/// The type of SQL that values are sent as.
fn sent_as(of: ColumnType) -> &'static str {
    match of {
        // Its binary form would be made of a text here that PostgreSQL can read itself.
        ColumnType::Numeric => "text",
        of => of.name(),
    }
}

fn array_of(of: ColumnType) -> Type {
    match of {
        ColumnType::Text | ColumnType::Numeric => Type::TEXT_ARRAY,
        ColumnType::BigInt => Type::INT8_ARRAY,
        ColumnType::Integer => Type::INT4_ARRAY,
        ColumnType::Double => Type::FLOAT8_ARRAY,
        ColumnType::Boolean => Type::BOOL_ARRAY,
        ColumnType::Timestamp(_) => Type::TIMESTAMPTZ_ARRAY,
        ColumnType::Date => Type::DATE_ARRAY,
        ColumnType::Uuid => Type::UUID_ARRAY,
        ColumnType::Json => Type::JSONB_ARRAY,
        ColumnType::Bytes => Type::BYTEA_ARRAY,
    }
}
