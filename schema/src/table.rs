//! The `table!` macro: one definition of a table gives its row, its Arrow schema, its builders, its documentation, the
//! names other tools use for each column, and its place in the reference. Nothing about a column is written twice.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema};

/// Version of the tables; written into every Parquet file. Changes within a major version only add tables and columns.
pub const SCHEMA_VERSION: &str = "1.4";

/// One column: where its name, meaning and foreign names are defined, once.
#[derive(Debug)]
pub struct Column {
    /// Column name, flat snake case.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Arrow type.
    pub data_type: fn() -> DataType,
    /// Unit and the names other conventions use: `unit`, `otel`, `ecs`, `zeek`, `kfl`, `hubble`, `wireshark`, `pcapng`.
    pub metadata: &'static [(&'static str, &'static str)],
}

impl Column {
    /// Foreign name of the column under a convention, for example `zeek`.
    pub fn named(&self, convention: &str) -> Option<&'static str> {
        self.metadata.iter().find(|(key, _)| *key == convention).map(|(_, name)| *name)
    }
}

/// A block of columns with its builders; a table is one to three blocks side by side.
pub trait Block: Default + Send {
    /// One row of the block, borrowed.
    type Row<'a>: Default;
    /// The columns, in order.
    const COLUMNS: &'static [Column];
    /// Appends a row; returns the bytes it took.
    fn append(&mut self, row: &Self::Row<'_>) -> usize;
    /// Moves the finished arrays, in order, to `out`.
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
    pub blocks: &'static [&'static [Column]],
    /// Set for call tables.
    pub call: Option<CallView>,
}

/// Field ids leave room for each block to grow at its end without moving another's.
const BLOCK_FIELD_IDS: usize = 1000;

impl Table {
    /// All columns in order.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns().find(|column| column.name == name)
    }

    /// The Arrow schema, with documentation, foreign names and Parquet field ids as field metadata.
    pub fn schema(&self) -> Schema {
        let mut fields = Vec::new();
        for (block, columns) in self.blocks.iter().enumerate() {
            for (position, column) in columns.iter().enumerate() {
                let mut metadata: HashMap<String, String> =
                    column.metadata.iter().map(|(key, name)| (key.to_string(), name.to_string())).collect();
                metadata.insert("doc".into(), column.doc.into());
                let field_id = block * BLOCK_FIELD_IDS + position + 1;
                metadata.insert("PARQUET:field_id".into(), field_id.to_string());
                fields.push(Field::new(column.name, (column.data_type)(), true).with_metadata(metadata));
            }
        }
        let metadata = HashMap::from([
            ("sharkq.table".into(), self.name.into()),
            ("sharkq.schema_version".into(), SCHEMA_VERSION.into()),
        ]);
        Schema::new_with_metadata(fields, metadata)
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

/// Defines a block of columns: the row, the builders and the column list.
#[macro_export]
macro_rules! block {
    (
        $(#[doc = $block_doc:literal])*
        $row:ident, $builder:ident {
            $( $(#[doc = $doc:literal])+ $name:ident : $cell:ident $([ $($key:ident = $value:literal),* $(,)? ])? ),* $(,)?
        }
    ) => {
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
            const COLUMNS: &'static [$crate::table::Column] = &[
                $( $crate::table::Column {
                    name: $crate::table::unescaped(stringify!($name)),
                    doc: concat!($($doc, "\n"),+),
                    data_type: <$crate::cell::$cell as $crate::cell::Cell>::data_type,
                    metadata: &[ $($( (stringify!($key), $value) ),*)? ],
                }, )*
            ];
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

/// Defines a table: `plain` (its columns and, with `traced`, the packets behind a row) or `call` (the columns all calls
/// share before its own, the packets behind it after).
#[macro_export]
macro_rules! table {
    (
        $(#[doc = $table_doc:literal])+
        plain $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*] { $($columns:tt)* }
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { $($columns)* } }
        /// The table's entry in the catalogue.
        pub static TABLE: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: concat!($($table_doc, "\n"),+),
            sort: &[$($sort),*],
            blocks: &[<$builder as $crate::table::Block>::COLUMNS],
            call: None,
        };
    };
    (
        $(#[doc = $table_doc:literal])+
        traced $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*] { $($columns:tt)* }
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { $($columns)* } }
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
        };
    };
    (
        $(#[doc = $table_doc:literal])+
        call $name:literal, $row:ident, $builder:ident, sort [$($sort:literal),*],
        view { $($part:ident: $sql:literal),* $(,)? } { $($columns:tt)* }
    ) => {
        $crate::block! { $(#[doc = $table_doc])+ $row, $builder { $($columns)* } }
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
        };
    };
}
