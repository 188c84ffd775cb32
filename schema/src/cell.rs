//! Cells: how one value of a column type enters an Arrow builder.
//! In: a borrowed value (`None` = not known). Out: a builder slot and the number of bytes it took.
//! A cell never copies a value into memory of its own before the builder does.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder,
    ListArray, ListBuilder, MapArray, StringViewBuilder, StructArray, TimestampNanosecondBuilder,
    UInt32Builder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use crate::table::Source;

/// A column type: the Rust value a layer hands over and the Arrow type it becomes.
pub trait Cell {
    /// What a row holds for this column; the default is "not known".
    type Value<'a>: Copy + Default;
    /// The Arrow builder behind the column.
    type Builder: Send;
    /// Where its values come from.
    const SOURCE: Source = Source::Row;
    /// The Arrow type of the column. Texts and bytes are built as views, which are cheap to put in another order.
    fn data_type() -> DataType;
    /// An empty builder.
    fn builder() -> Self::Builder;
    /// Appends one value and returns the bytes it took.
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize;
    /// Takes what was appended as an array and leaves the builder empty.
    fn finish(builder: &mut Self::Builder) -> ArrayRef;
}

macro_rules! primitive {
    ($(#[$doc:meta])* $name:ident, $value:ty, $builder:ty, $data_type:expr, $bytes:expr) => {
        $(#[$doc])*
        pub struct $name;
        impl Cell for $name {
            type Value<'a> = Option<$value>;
            type Builder = $builder;
            fn data_type() -> DataType {
                $data_type
            }
            fn builder() -> Self::Builder {
                <$builder>::new()
            }
            fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
                builder.append_option(value);
                $bytes
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }
        }
    };
}

primitive!(/** Signed 32-bit integer. */ Int32, i32, Int32Builder, DataType::Int32, 4);
primitive!(/** Signed 64-bit integer. */ Int64, i64, Int64Builder, DataType::Int64, 8);
primitive!(/** True or false. */ Bool, bool, BooleanBuilder, DataType::Boolean, 1);
primitive!(/** A ratio or another real number. */ Float64, f64, Float64Builder, DataType::Float64, 8);
primitive!(
    /** Nanoseconds since 1970-01-01 00:00:00 UTC; no zone in the type, UTC by contract. */
    Time, i64, TimestampNanosecondBuilder, DataType::Timestamp(TimeUnit::Nanosecond, None), 8
);

macro_rules! variable {
    ($(#[$doc:meta])* $name:ident, $value:ty, $builder:ty, $data_type:expr) => {
        $(#[$doc])*
        pub struct $name;
        impl Cell for $name {
            type Value<'a> = Option<&'a $value>;
            type Builder = $builder;
            fn data_type() -> DataType {
                $data_type
            }
            fn builder() -> Self::Builder {
                <$builder>::new()
            }
            fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
                builder.append_option(value);
                4 + value.map_or(0, |value| value.len())
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }
        }
    };
}

variable!(/** UTF-8 text. */ Text, str, StringViewBuilder, DataType::Utf8);
variable!(/** Bytes as they were on the wire. */ Bytes, [u8], BinaryViewBuilder, DataType::Binary);

/// A list of texts.
pub struct TextList;

impl Cell for TextList {
    type Value<'a> = Option<&'a [&'a str]>;
    type Builder = ListBuilder<StringViewBuilder>;
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
    }
    fn builder() -> Self::Builder {
        ListBuilder::new(StringViewBuilder::new())
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        let mut bytes = 4;
        for text in value.unwrap_or_default() {
            builder.values().append_value(text);
            bytes += 4 + text.len();
        }
        builder.append(value.is_some());
        bytes
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
}

/// A list of integers.
pub struct Int64List;

impl Cell for Int64List {
    type Value<'a> = Option<&'a [i64]>;
    type Builder = ListBuilder<Int64Builder>;
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))
    }
    fn builder() -> Self::Builder {
        ListBuilder::new(Int64Builder::new())
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        builder.values().append_slice(value.unwrap_or_default());
        builder.append(value.is_some());
        4 + 8 * value.map_or(0, <[i64]>::len)
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
}

/// Names and values with an offset for each row, of which a map or a list of pairs is made.
#[derive(Default)]
pub struct PairsBuilder {
    names: StringViewBuilder,
    values: StringViewBuilder,
    lengths: Vec<usize>,
    is_known: Vec<bool>,
}

/// A name and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl PairsBuilder {
    fn append(&mut self, pairs: Option<&[Pair<'_>]>) -> usize {
        let mut bytes = 4;
        for (name, value) in pairs.unwrap_or_default() {
            self.names.append_value(name);
            self.values.append_value(value);
            bytes += 8 + name.len() + value.len();
        }
        self.lengths.push(pairs.map_or(0, <[_]>::len));
        self.is_known.push(pairs.is_some());
        bytes
    }

    /// Offsets, pairs, and which rows have any; the pairs have the field names that are given.
    fn finish(&mut self, fields: [(&str, bool); 2]) -> (OffsetBuffer<i32>, StructArray, Option<NullBuffer>) {
        let fields: Fields =
            fields.into_iter().map(|(name, null)| Field::new(name, DataType::Utf8View, null)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(self.names.finish()), Arc::new(self.values.finish())];
        let pairs = StructArray::new(fields, columns, None);
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let nulls = NullBuffer::from(std::mem::take(&mut self.is_known));
        (offsets, pairs, Some(nulls).filter(|nulls| nulls.null_count() > 0))
    }
}

/// Names and values; each name at most once (a map: `request_headers['host']`).
pub struct TextMap;

impl Cell for TextMap {
    type Value<'a> = Option<&'a [Pair<'a>]>;
    type Builder = PairsBuilder;
    fn data_type() -> DataType {
        let entry = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, true),
        ]);
        DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
    }
    fn builder() -> Self::Builder {
        PairsBuilder::default()
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        builder.append(value)
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        let (offsets, pairs, nulls) = builder.finish([("key", false), ("value", true)]);
        let field = Arc::new(Field::new("key_value", pairs.data_type().clone(), false));
        Arc::new(MapArray::new(field, offsets, pairs, nulls, false))
    }
}

/// Names and values in the order of the wire, repeats kept: the evidence twin of a [`TextMap`].
pub struct PairList;

impl Cell for PairList {
    type Value<'a> = Option<&'a [Pair<'a>]>;
    type Builder = PairsBuilder;
    fn data_type() -> DataType {
        let pair = Fields::from(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("value", DataType::Utf8, true),
        ]);
        DataType::List(Arc::new(Field::new("item", DataType::Struct(pair), true)))
    }
    fn builder() -> Self::Builder {
        PairsBuilder::default()
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        builder.append(value)
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        let (offsets, pairs, nulls) = builder.finish([("name", true), ("value", true)]);
        let field = Arc::new(Field::new("item", pairs.data_type().clone(), true));
        Arc::new(ListArray::new(field, offsets, Arc::new(pairs), nulls))
    }
}

/// The number of a recorded file, of which the column shows the name.
pub struct Segment;

impl Cell for Segment {
    type Value<'a> = Option<u32>;
    type Builder = UInt32Builder;
    const SOURCE: Source = Source::Segment;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn builder() -> Self::Builder {
        UInt32Builder::new()
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        builder.append_option(value);
        4
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
}
