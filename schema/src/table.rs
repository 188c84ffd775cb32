//! The `table!` macro: one definition of a table gives its row, its Arrow schema, its builders, its documentation, the
//! names other tools use for each column, and its place in the reference. Nothing about a column is written twice.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

pub use crate::shared::{Endpoint, EndpointColumn, FlowColumn};

/// Version of the tables; written into every Parquet file. Changes within a major version only add tables and columns.
pub const SCHEMA_VERSION: &str = "2.0";

/// One column: where its name, type, meaning and foreign names are defined, once.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Column name, flat snake case.
    pub name: &'static str,
    /// The description that stands in the reference.
    pub doc: &'static str,
    /// Its number in Parquet files. It stays the same for as long as the column exists.
    pub id: u32,
    /// Arrow type.
    pub data_type: fn() -> DataType,
    /// Where its values come from.
    pub source: Source,
    /// How it is stored.
    pub hints: &'static [Hint],
    /// Unit and the names other conventions use: `unit`, `otel`, `ecs`, `zeek`, `kfl`, `hubble`, `wireshark`, `pcapng`.
    pub metadata: &'static [(&'static str, &'static str)],
}

/// Where the values of a column come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Each row has its own.
    Row,
    /// Each row has the number of a recorded file, and the column its name.
    Segment,
    /// All rows of a flow have the same.
    Flow(FlowColumn),
    /// All rows of a flow have the same, which tells of one of its endpoints.
    Endpoint(Endpoint, EndpointColumn),
}

/// What a writer of files should know of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Rows are looked up by its values: it gets a bloom filter.
    Lookup,
    /// Its values are large, and nobody asks for the smallest or the largest.
    Body,
}

impl Column {
    /// Foreign name of the column under a convention, for example `zeek`.
    pub fn named(&self, convention: &str) -> Option<&'static str> {
        self.metadata.iter().find(|(key, _)| *key == convention).map(|(_, name)| *name)
    }

    /// The Arrow field, with documentation, foreign names and the Parquet field id as metadata.
    pub fn field(&self) -> Field {
        let mut metadata: HashMap<String, String> =
            self.metadata.iter().map(|(key, name)| (key.to_string(), name.to_string())).collect();
        metadata.insert("doc".into(), self.doc.into());
        metadata.insert("PARQUET:field_id".into(), self.id.to_string());
        Field::new(self.name, (self.data_type)(), true).with_metadata(metadata)
    }
}

/// A block of columns with its builders; a table is one to three blocks side by side.
pub trait Block: Default + Send {
    /// One row of the block, borrowed.
    type Row<'a>: Default;
    /// The columns, in order and in groups.
    const COLUMNS: &'static [&'static [Column]];
    /// Appends a row; returns the bytes it took.
    fn append(&mut self, row: &Self::Row<'_>) -> usize;
    /// Moves the finished arrays of the columns that each row has of its own, in order, to `out`. Texts and bytes are views.
    fn finish(&mut self, out: &mut Vec<ArrayRef>);
}

/// How a call table appears in the view `api_calls`: SQL expressions over its own columns.
#[derive(Debug)]
pub struct CallView {
    /// `GET`, `A`, `PRODUCE`, ...
    pub operation: &'static str,
    /// What the operation was done to.
    pub resource: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Outcome as text.
    pub status: &'static str,
    /// Outcome as a number, where the protocol has one.
    pub status_code: &'static str,
    /// Protocol version as text.
    pub version: &'static str,
    /// Rows that are counted under a more specific protocol instead: excluded from the view.
    pub excluded: &'static str,
}

/// A column that is not stored: it is computed from others when it is asked for.
#[derive(Debug)]
pub struct Derived {
    /// The column; its number stands in no file.
    pub column: Column,
    /// SQL over the stored columns of its table.
    pub sql: &'static str,
}

/// A table as the catalogue sees it.
#[derive(Debug)]
pub struct Table {
    /// Name in SQL and folder name in the index.
    pub name: &'static str,
    /// What one row is.
    pub doc: &'static str,
    /// Sort order of a run.
    pub sort: &'static [&'static str],
    /// Blocks of columns.
    pub blocks: &'static [&'static [&'static [Column]]],
    /// Set for call tables.
    pub call: Option<CallView>,
    /// Columns that are computed when they are asked for.
    pub derived: &'static [Derived],
}

impl Table {
    /// All stored columns in order.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.blocks.iter().flat_map(|block| block.iter().flat_map(|group| group.iter()))
    }

    /// A column by name, stored or computed.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.asked().find(|column| column.name == name)
    }

    /// The Arrow schema of what is stored.
    pub fn schema(&self) -> Schema {
        let metadata = HashMap::from([
            ("sharkq.table".into(), self.name.into()),
            ("sharkq.schema_version".into(), SCHEMA_VERSION.into()),
        ]);
        Schema::new_with_metadata(self.columns().map(Column::field).collect::<Vec<_>>(), metadata)
    }

    /// All columns that can be asked for: those that are stored, and behind them those that are computed.
    pub fn asked(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.columns().chain(self.derived.iter().map(|derived| &derived.column))
    }

    /// The Arrow schema of what can be asked for.
    pub fn asked_schema(&self) -> Schema {
        Schema::new(self.asked().map(Column::field).collect::<Vec<_>>())
    }

    /// Rows out of all columns; texts and bytes, which builders give as views, become what the schema says.
    pub fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
        let schema = Arc::new(self.schema());
        // A column is let go of before the next is copied: those of a hostile log are large.
        let columns = columns.into_iter().zip(schema.fields());
        let columns = columns.map(|(values, field)| cast(&values, field.data_type()));
        RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)
    }
}

/// A column may be called what is a word of Rust: `r#type` is `type`.
pub const fn unescaped(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match std::str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name,
        },
        _ => name,
    }
}

/// Joins the lines of a doc comment to one paragraph.
pub fn paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Defines a column: its documentation, `name: Cell Hint = id [convention = "name"]`, and the name as text.
#[macro_export]
macro_rules! column {
    ($name:expr, $doc:expr, $cell:ident, [$($hint:ident)*], $id:literal, $source:expr,
     [$($key:ident = $value:literal),* $(,)?]) => {
        $crate::table::Column {
            name: $name,
            doc: $doc,
            id: $id,
            data_type: <$crate::cell::$cell as $crate::cell::Cell>::data_type,
            source: $source,
            hints: &[$($crate::table::Hint::$hint),*],
            metadata: &[$( (stringify!($key), $value) ),*],
        }
    };
}

/// Defines a block of columns: the row, the builders and the column list. Its groups are `own { ... }`, columns of which each row
/// has values of its own, and `shared [...]`, columns that all rows of a flow have in common.
#[macro_export]
macro_rules! block {
    ($(#[doc = $block_doc:literal])* $row:ident, $builder:ident { $($groups:tt)* }) => {
        $crate::block! { @group [$(#[doc = $block_doc])* $row, $builder] own [] columns [] $($groups)* }
    };
    (@group $head:tt own [$($own:tt)*] columns [$($columns:tt)*] shared [$($shared:expr),* $(,)?] $($rest:tt)*) => {
        $crate::block! { @group $head own [$($own)*] columns [$($columns)* $($shared,)*] $($rest)* }
    };
    (@group $head:tt own [$($own:tt)*] columns [$($columns:tt)*] own {
        $( $(#[doc = $doc:literal])+ $name:ident : $cell:ident $($hint:ident)* = $id:literal $([$($meta:tt)*])? ),* $(,)?
    } $($rest:tt)*) => {
        $crate::block! { @group $head
            own [$($own)* $( $(#[doc = $doc])+ $name: $cell, )*]
            columns [$($columns)* &[$( $crate::column!(
                $crate::table::unescaped(stringify!($name)), concat!($($doc, "\n"),+), $cell, [$($hint)*], $id,
                <$crate::cell::$cell as $crate::cell::Cell>::SOURCE, [$($($meta)*)?]
            ), )*],]
            $($rest)*
        }
    };
    (@group [$(#[doc = $block_doc:literal])* $row:ident, $builder:ident]
     own [$( $(#[doc = $doc:literal])+ $name:ident : $cell:ident, )*] columns [$($columns:tt)*]) => {
        $(#[doc = $block_doc])*
        #[derive(Clone, Copy, Default)]
        pub struct $row<'a> {
            $( $(#[doc = $doc])+ pub $name: <$crate::cell::$cell as $crate::cell::Cell>::Value<'a>, )*
            /// Keeps the lifetime used where no column borrows.
            pub marker: std::marker::PhantomData<&'a ()>,
        }

        /// Builders of the columns.
        pub struct $builder {
            $( $name: <$crate::cell::$cell as $crate::cell::Cell>::Builder, )*
        }

        impl Default for $builder {
            fn default() -> Self {
                $builder { $( $name: <$crate::cell::$cell as $crate::cell::Cell>::builder(), )* }
            }
        }

        impl $crate::table::Block for $builder {
            type Row<'a> = $row<'a>;
            const COLUMNS: &'static [&'static [$crate::table::Column]] = &[$($columns)*];
            fn append(&mut self, row: &Self::Row<'_>) -> usize {
                let mut bytes = 0;
                $( bytes += <$crate::cell::$cell as $crate::cell::Cell>::append(&mut self.$name, row.$name); )*
                bytes
            }
            fn finish(&mut self, out: &mut Vec<arrow::array::ArrayRef>) {
                $( out.push(<$crate::cell::$cell as $crate::cell::Cell>::finish(&mut self.$name)); )*
            }
        }
    };
}

/// Defines a table: `plain` (its columns), `traced` (groups of columns, as of a block, and the packets behind a row) or `call` (the
/// columns all calls share before its own, the packets behind it after).
#[macro_export]
macro_rules! table {
    (
        $(#[doc = $table_doc:literal])+
        plain $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*] { $($columns:tt)* }
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { own { $($columns)* } } }
        /// The table's entry in the catalogue.
        pub static TABLE: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: concat!($($table_doc, "\n"),+),
            sort: &[$($sort),*],
            blocks: &[<$builder as $crate::table::Block>::COLUMNS],
            call: None,
            derived: &[],
        };
    };
    (
        $(#[doc = $table_doc:literal])+
        traced $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*] { $($groups:tt)* }
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { $($groups)* } }
        /// The table's entry in the catalogue.
        pub static TABLE: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: concat!($($table_doc, "\n"),+),
            sort: &[$($sort),*],
            blocks: &[
                <$builder as $crate::table::Block>::COLUMNS,
                <$crate::call::OriginBlock as $crate::table::Block>::COLUMNS,
            ],
            call: None,
            derived: &[],
        };
    };
    (
        $(#[doc = $table_doc:literal])+
        call $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*],
        view { $($part:ident: $sql:literal),* $(,)? } { $($columns:tt)* } $(derived [$($derived:expr),* $(,)?])?
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { own { $($columns)* } } }
        /// The table's entry in the catalogue.
        pub static TABLE: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: concat!($($table_doc, "\n"),+),
            sort: &[$($sort),*],
            blocks: &[
                <$crate::call::CallBlock as $crate::table::Block>::COLUMNS,
                <$builder as $crate::table::Block>::COLUMNS,
                <$crate::call::OriginBlock as $crate::table::Block>::COLUMNS,
            ],
            call: Some($crate::table::CallView { $($part: $sql),* }),
            derived: &[$($($derived),*)?],
        };
    };
}
