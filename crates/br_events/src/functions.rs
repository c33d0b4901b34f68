//! SQL functions for events: `match(text, 'words')`, `attr(map, 'key')` and `template(text)`; and texts compared with numbers.

use crate::terms::words;
use arrow::array::{Array, ArrayRef, BooleanArray, MapArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, cast::as_string_array, exec_err};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility, try_cast,
};
use std::sync::Arc;

/// The functions that a session for events should know.
pub fn sql_functions() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(MatchWords::new()), ScalarUDF::from(Attr::new()), ScalarUDF::from(Template::new())]
}

/// How expressions are to be read in such a session, before types are checked.
pub fn sql_rewrites() -> Vec<Arc<dyn FunctionRewrite + Send + Sync>> {
    vec![Arc::new(TextsAsNumbers)]
}

/// A text that is compared with a number is read as one, and is null where it is none; with a truth value it is compared as text.
///
/// Attributes are of the type that their sender gave them: where senders disagree, their column is one of texts, and one record
/// whose value is no number must not fail a query for the others.
#[derive(Debug)]
struct TextsAsNumbers;

/// Integers beyond this are not exact as doubles.
const EXACT_INTEGER_MAX: i64 = 1 << 53;

impl FunctionRewrite for TextsAsNumbers {
    fn name(&self) -> &'static str {
        "texts_as_numbers"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let left_type = read_as(&left, [&*right], schema).or_else(|| as_text(&left, &right, schema));
                let right_type = read_as(&right, [&*left], schema).or_else(|| as_text(&right, &left, schema));
                let is_changed = left_type.is_some() || right_type.is_some();
                let (left, right) = (read(*left, left_type), read(*right, right_type));
                let expr = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
                if is_changed { Transformed::yes(expr) } else { Transformed::no(expr) }
            }
            Expr::Between(mut between) => {
                let Some(as_type) = read_as(&between.expr, [&*between.low, &*between.high], schema) else {
                    return Ok(Transformed::no(Expr::Between(between)));
                };
                between.expr = Box::new(read(*between.expr, Some(as_type)));
                Transformed::yes(Expr::Between(between))
            }
            Expr::InList(mut list) => {
                let Some(as_type) = read_as(&list.expr, &list.list, schema) else {
                    return Ok(Transformed::no(Expr::InList(list)));
                };
                list.expr = Box::new(read(*list.expr, Some(as_type)));
                Transformed::yes(Expr::InList(list))
            }
            other => Transformed::no(other),
        })
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn read(expr: Expr, as_type: Option<DataType>) -> Expr {
    match as_type {
        Some(as_type) => try_cast(expr, as_type),
        None => expr,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The type of texts, for a truth value that is compared with one.
fn as_text(expr: &Expr, other: &Expr, schema: &DFSchema) -> Option<DataType> {
    let text = other.get_type(schema).ok().filter(is_text)?;
    (expr.get_type(schema).ok()? == DataType::Boolean).then_some(text)
}

/// What a text is to be read as for a comparison with all of the others; `None` where it is no text, or is compared with texts.
fn read_as<'e>(expr: &Expr, others: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) -> Option<DataType> {
    if !is_text(&expr.get_type(schema).ok()?) || matches!(expr, Expr::Literal(..)) {
        return None;
    }
    let mut as_type: Option<DataType> = None;
    for other in others {
        let other_type = other.get_type(schema).ok()?;
        let wanted = match other {
            Expr::Literal(ScalarValue::Int64(Some(number)), _) if number.unsigned_abs() > EXACT_INTEGER_MAX.unsigned_abs() => {
                DataType::Int64
            }
            _ if other_type.is_numeric() => DataType::Float64,
            _ => return None,
        };
        as_type = match as_type {
            Some(known) if known != wanted => Some(DataType::Float64),
            _ => Some(wanted),
        };
    }
    as_type
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

/// `template(text)`: a line without what changes by its looks, so that lines alike are one group.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Template {
    signature: Signature,
}

impl Template {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Template {
    fn name(&self) -> &'static str {
        "template"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [texts] = arrays.as_slice() else { return exec_err!("template takes a text") };
        let masked: StringArray = as_string_array(texts)?.iter().map(|text| text.map(br_template::mask)).collect();
        Ok(ColumnarValue::Array(Arc::new(masked)))
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
