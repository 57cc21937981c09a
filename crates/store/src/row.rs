//! Decides how a row is read: by position, with the kind said aloud; another kind is a fault that names
//! the statement and the column.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::Fault;
use uuid::Uuid;

use crate::seal::{self, Sealing};
use crate::statement::Statement;
use crate::value::Value;

/// One row of an answer, borrowed from the engine while it is read.
pub struct Row<'a> {
    pub(crate) statement: &'a Statement,
    pub(crate) inner: Inner<'a>,
}

pub(crate) enum Inner<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl Row<'_> {
    /// The column as it is stored.
    pub fn value(&self, column: usize) -> Result<Value<'_>, Fault> {
        match self.inner {
            Inner::Sqlite(row) => crate::engine::sqlite::column(row, column),
            Inner::Postgres(row) => crate::engine::postgres::column(row, column),
        }
        .map_err(|error| Fault::new(self.place(column), error))
    }

    pub fn int(&self, column: usize) -> Result<i64, Fault> {
        self.opt_int(column)?.ok_or_else(|| self.wrong(column, "a whole number", Value::Null))
    }

    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, Fault> {
        match self.value(column)? {
            Value::Int(number) => Ok(Some(number)),
            Value::Null => Ok(None),
            other => Err(self.wrong(column, "a whole number", other)),
        }
    }

    /// A count or a position: never below zero.
    pub fn uint(&self, column: usize) -> Result<u64, Fault> {
        self.opt_uint(column)?.ok_or_else(|| self.wrong(column, "a whole number", Value::Null))
    }

    pub fn opt_uint(&self, column: usize) -> Result<Option<u64>, Fault> {
        let number = self.opt_int(column)?;
        number.map(u64::try_from).transpose().map_err(|error| Fault::new(self.place(column), error))
    }

    /// Kept as 0 or 1.
    pub fn bool(&self, column: usize) -> Result<bool, Fault> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(column, "0 or 1", Value::Int(other))),
        }
    }

    pub fn text(&self, column: usize) -> Result<&str, Fault> {
        self.opt_text(column)?.ok_or_else(|| self.wrong(column, "a text", Value::Null))
    }

    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, Fault> {
        match self.value(column)? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            other => Err(self.wrong(column, "a text", other)),
        }
    }

    pub fn bytes(&self, column: usize) -> Result<&[u8], Fault> {
        self.opt_bytes(column)?.ok_or_else(|| self.wrong(column, "bytes", Value::Null))
    }

    pub fn opt_bytes(&self, column: usize) -> Result<Option<&[u8]>, Fault> {
        match self.value(column)? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            other => Err(self.wrong(column, "bytes", other)),
        }
    }

    /// An id, kept as its sixteen bytes.
    pub fn uuid(&self, column: usize) -> Result<Uuid, Fault> {
        self.opt_uuid(column)?.ok_or_else(|| self.wrong(column, "an id", Value::Null))
    }

    pub fn opt_uuid(&self, column: usize) -> Result<Option<Uuid>, Fault> {
        let bytes = self.opt_bytes(column)?;
        bytes.map(Uuid::from_slice).transpose().map_err(|error| Fault::new(self.place(column), error))
    }

    /// A moment, kept as whole microseconds since 1970.
    pub fn timestamp(&self, column: usize) -> Result<Timestamp, Fault> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub fn opt_timestamp(&self, column: usize) -> Result<Option<Timestamp>, Fault> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    fn name(&self, column: usize) -> &str {
        match self.inner {
            Inner::Sqlite(row) => row.as_ref().column_name(column).unwrap_or("?"),
            Inner::Postgres(row) => row.columns().get(column).map_or("?", |column| column.name()),
        }
    }

    fn place(&self, column: usize) -> String {
        format!("reading column {column} (`{}`) of `{}`", self.name(column), self.statement.name())
    }

    fn wrong(&self, column: usize, wanted: &str, found: Value<'_>) -> Fault {
        Fault::msg(format!("{}: wanted {wanted}, found {}", self.place(column), found.kind()))
    }

    fn columns(&self) -> usize {
        match self.inner {
            Inner::Sqlite(row) => row.as_ref().column_count(),
            Inner::Postgres(row) => row.len(),
        }
    }

    /// Recomputes the seal over the columns before it.
    pub(crate) fn check_seal(&self, table: &str) -> Result<(), Fault> {
        let mut sealing = Sealing::of(table);
        for column in 0..self.columns() {
            if self.name(column) == seal::COLUMN {
                let kept = self.int(column)?;
                let matches = sealing.close() == kept;
                return if matches { Ok(()) } else { Err(seal::broken(self.statement.name())) };
            }
            sealing.add(self.value(column)?);
        }
        Err(seal::missing(self.statement))
    }
}

/// What can be made of a row.
pub trait FromRow: Sized {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault>;
}

/// What can be made of one column; tuples of these are read in order.
pub trait FromColumn: Sized {
    fn from_column(row: &Row<'_>, column: usize) -> Result<Self, Fault>;
}

macro_rules! columns {
    ($($kind:ty => $read:expr;)+) => { $(
        impl FromColumn for $kind {
            fn from_column(row: &Row<'_>, column: usize) -> Result<Self, Fault> {
                let read: fn(&Row<'_>, usize) -> Result<Self, Fault> = $read;
                read(row, column)
            }
        }
    )+ };
}

columns! {
    i64 => |row, i| row.int(i);
    Option<i64> => |row, i| row.opt_int(i);
    u64 => |row, i| row.uint(i);
    Option<u64> => |row, i| row.opt_uint(i);
    bool => |row, i| row.bool(i);
    String => |row, i| row.text(i).map(str::to_owned);
    Option<String> => |row, i| Ok(row.opt_text(i)?.map(str::to_owned));
    Vec<u8> => |row, i| row.bytes(i).map(<[u8]>::to_vec);
    Option<Vec<u8>> => |row, i| Ok(row.opt_bytes(i)?.map(<[u8]>::to_vec));
    Timestamp => |row, i| row.timestamp(i);
    Option<Timestamp> => |row, i| row.opt_timestamp(i);
    Uuid => |row, i| row.uuid(i);
    Option<Uuid> => |row, i| row.opt_uuid(i);
}

macro_rules! tuples {
    ($(($($kind:ident $at:literal),+);)+) => { $(
        impl<$($kind: FromColumn),+> FromRow for ($($kind,)+) {
            fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
                Ok(($($kind::from_column(row, $at)?,)+))
            }
        }
    )+ };
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}
