//! The function `header_list(names, headers, repeats)`: header fields in wire order with their wire spelling. In: the names as
//! they were sent, one a line, the map of lower-case names, and the fields themselves where a name repeats. Out: lists of pairs.

use arrow::array::{Array, AsArray, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use shark_schema::cell::{Cell, Pair, PairList, TextMap};

/// The function.
pub fn header_list() -> ScalarUDF {
    let types = vec![DataType::Utf8, TextMap::data_type(), PairList::data_type()];
    ScalarUDF::new_from_impl(HeaderList { signature: Signature::exact(types, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HeaderList {
    signature: Signature,
}

impl ScalarUDFImpl for HeaderList {
    fn name(&self) -> &str {
        "header_list"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(PairList::data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let names = columns[0].as_string::<i32>();
        let (headers, repeats) = (columns[1].as_map(), columns[2].as_list::<i32>());
        let (joined, sent) = (halves(headers.entries()), halves(repeats.values().as_struct()));
        let mut lists = PairList::builder();
        let mut fields: Vec<Pair<'_>> = Vec::new();
        for row in 0..names.len() {
            fields.clear();
            let is_known = names.is_valid(row) && headers.is_valid(row) || repeats.is_valid(row);
            if repeats.is_valid(row) {
                let of_row = range(repeats.value_offsets(), row);
                fields.extend(of_row.map(|at| (sent.0.value(at).into(), sent.1.value(at).into())));
            } else if is_known {
                // Where no name repeats, the map has the fields in wire order.
                let of_row = range(headers.value_offsets(), row);
                let values = of_row.map(|at| joined.1.value(at));
                let names = names.value(row).split('\n').zip(values);
                fields.extend(names.map(|(name, value)| (name.into(), value.into())));
            }
            PairList::append(&mut lists, is_known.then_some(&fields));
        }
        Ok(ColumnarValue::Array(cast(&PairList::finish(&mut lists), &PairList::data_type())?))
    }
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Names and values of pairs.
fn halves(pairs: &StructArray) -> (&StringArray, &StringArray) {
    (pairs.column(0).as_string(), pairs.column(1).as_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;

    use super::*;

    #[test]
    fn fields_are_as_they_were_sent() {
        let pair = |name: &'static str, value: &'static str| (name.into(), value.into());
        let (mut maps, mut repeats) = (TextMap::builder(), PairList::builder());
        let alone = [pair("host", "a"), pair("x-one", "1")];
        let joined = [pair("host", "a"), pair("via", "1, 2, 3")];
        let twice = [pair("Host", "a"), pair("Via", "1, 2"), pair("VIA", "3")];
        for (map, sent) in
            [(Some(&alone[..]), None), (Some(&joined), Some(&twice[..])), (Some(&[]), None), (None, None)]
        {
            TextMap::append(&mut maps, map);
            PairList::append(&mut repeats, sent);
        }
        let names: ArrayRef =
            Arc::new(StringArray::from(vec![Some("Host\nX-One"), Some("Host\nVia\nVIA"), Some(""), None]));
        let arrays = [
            names,
            cast(&TextMap::finish(&mut maps), &TextMap::data_type()).unwrap(),
            cast(&PairList::finish(&mut repeats), &PairList::data_type()).unwrap(),
        ];
        let lists = header_list().invoke_with_args(ScalarFunctionArgs {
            arg_fields: Vec::new(),
            args: arrays.into_iter().map(ColumnarValue::Array).collect(),
            number_rows: 4,
            return_field: Arc::new(Field::new("list", PairList::data_type(), true)),
            config_options: Arc::new(ConfigOptions::new()),
        });
        let lists = lists.unwrap().to_array(4).unwrap();
        let lists = lists.as_list::<i32>();
        let row = |row: usize| -> Vec<(String, String)> {
            let pairs = lists.value(row);
            let (names, values) = halves(pairs.as_struct());
            names
                .iter()
                .zip(values)
                .map(|(name, value)| (name.unwrap().into(), value.unwrap().into()))
                .collect()
        };
        let plain = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(row(0), plain(&[("Host", "a"), ("X-One", "1")]));
        assert_eq!(row(1), plain(&[("Host", "a"), ("Via", "1, 2"), ("VIA", "3")]));
        assert_eq!(row(2), plain(&[]));
        assert!(lists.is_null(3));
    }
}
