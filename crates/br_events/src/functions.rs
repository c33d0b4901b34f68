//! SQL functions for events: `match(text, 'words')` and `attr(map, 'key')`.

use crate::terms::words;
use arrow::array::{Array, ArrayRef, BooleanArray, MapArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, cast::as_string_array, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::sync::Arc;

/// The functions that a session for events should know.
pub fn sql_functions() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(MatchWords::new()), ScalarUDF::from(Attr::new())]
}

/// `match(text, 'words')`: all the words occur in the text as whole words, in any order and case of ASCII letters.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MatchWords {
    signature: Signature,
}

impl MatchWords {
    fn new() -> Self {
        let texts = TypeSignature::Exact(vec![DataType::Utf8, DataType::Utf8]);
        Self { signature: Signature::new(texts, Volatility::Immutable) }
    }
}

fn has_words(text: &str, wanted: &str) -> bool {
    words(wanted).all(|word| words(text).any(|found| found.eq_ignore_ascii_case(word)))
}

impl ScalarUDFImpl for MatchWords {
    fn name(&self) -> &'static str {
        "match"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [texts, wanted] = arrays.as_slice() else { return exec_err!("match takes a text and words") };
        let (texts, wanted) = (as_string_array(texts)?, as_string_array(wanted)?);
        let holds: BooleanArray = texts.iter().zip(wanted).map(|(text, wanted)| Some(has_words(text?, wanted?))).collect();
        Ok(ColumnarValue::Array(Arc::new(holds)))
    }
}

/// `attr(map, 'key')`: the first value of a key in a map such as `attributes` or `resource`; null without it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Attr {
    signature: Signature,
}

impl Attr {
    fn new() -> Self {
        let types = TypeSignature::Exact(vec![crate::schema::map_type(), DataType::Utf8]);
        Self { signature: Signature::new(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Attr {
    fn name(&self) -> &'static str {
        "attr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [maps, keys] = arrays.as_slice() else { return exec_err!("attr takes a map and a key") };
        let Some(maps) = maps.as_any().downcast_ref::<MapArray>() else { return exec_err!("attr takes a map") };
        let keys = as_string_array(keys)?;
        let (names, values) = (as_string_array(maps.keys())?, as_string_array(maps.values())?);
        let value = |row: usize| {
            let wanted = (!maps.is_null(row) && !keys.is_null(row)).then(|| keys.value(row))?;
            let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
            range.into_iter().find(|at| names.value(*at) == wanted).map(|at| values.value(at).to_owned())
        };
        let found: StringArray = (0..maps.len()).map(value).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    }
}

#[cfg(test)]
mod tests {
    use super::has_words;

    #[test]
    fn whole_words_in_any_order_and_case() {
        assert!(has_words("Connection refused by 10.0.0.1", "REFUSED connection"));
        assert!(!has_words("connections refused", "connection"));
        assert!(has_words("anything", ""));
    }
}
