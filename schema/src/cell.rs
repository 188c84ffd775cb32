//! Cells: how one value of a column type enters an Arrow builder.
//! In: a borrowed value (`None` = not known). Out: a builder slot and the number of bytes it took.
//! A cell never copies a value into memory of its own before the builder does.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder,
    ListBuilder, MapBuilder, MapFieldNames, StringBuilder, StructBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// A column type: the Rust value a layer hands over and the Arrow type it becomes.
pub trait Cell {
    /// What a row holds for this column; the default is "not known".
    type Value<'a>: Copy + Default;
    /// The Arrow builder behind the column.
    type Builder: Send;
    /// The Arrow type.
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

variable!(/** UTF-8 text. */ Text, str, StringBuilder, DataType::Utf8);
variable!(/** Bytes as they were on the wire. */ Bytes, [u8], BinaryBuilder, DataType::Binary);

/// A list of texts.
pub struct TextList;

impl Cell for TextList {
    type Value<'a> = Option<&'a [&'a str]>;
    type Builder = ListBuilder<StringBuilder>;
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
    }
    fn builder() -> Self::Builder {
        ListBuilder::new(StringBuilder::new())
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

/// Names and values; each name at most once (a map: `request_headers['host']`).
pub struct TextMap;

impl Cell for TextMap {
    type Value<'a> = Option<&'a [(Cow<'a, str>, Cow<'a, str>)]>;
    type Builder = MapBuilder<StringBuilder, StringBuilder>;
    fn data_type() -> DataType {
        let entry = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, true),
        ]);
        DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
    }
    fn builder() -> Self::Builder {
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        let mut bytes = 4;
        for (name, text) in value.unwrap_or_default() {
            builder.keys().append_value(name);
            builder.values().append_value(text);
            bytes += 8 + name.len() + text.len();
        }
        builder.append(value.is_some()).expect("as many keys as values were appended");
        bytes
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
}

/// Names and values in the order of the wire, repeats kept: the evidence twin of a [`TextMap`].
pub struct PairList;

impl PairList {
    fn fields() -> Fields {
        Fields::from(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("value", DataType::Utf8, true),
        ])
    }
}

impl Cell for PairList {
    type Value<'a> = Option<&'a [(Cow<'a, str>, Cow<'a, str>)]>;
    type Builder = ListBuilder<StructBuilder>;
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Struct(Self::fields()), true)))
    }
    fn builder() -> Self::Builder {
        let columns: Vec<Box<dyn ArrayBuilder>> =
            vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())];
        ListBuilder::new(StructBuilder::new(Self::fields(), columns))
    }
    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) -> usize {
        let mut bytes = 4;
        let pairs = builder.values();
        for (name, text) in value.unwrap_or_default() {
            for (column, part) in [(0, name), (1, text)] {
                let column = pairs.field_builder::<StringBuilder>(column);
                column.expect("both fields are text").append_value(part);
            }
            pairs.append(true);
            bytes += 8 + name.len() + text.len();
        }
        builder.append(value.is_some());
        bytes
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
}
