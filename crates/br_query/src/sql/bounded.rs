//! Functions whose answer may be far larger than what they are given: each says beforehand how large, and is refused beyond a limit.
//!
//! The memory pool counts what operators hold, not what an expression makes on its way.
//! `repeat(body, 1000000)` would ask the allocator for hundreds of gigabytes, and a failed allocation ends the process.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What one call may make of one batch of rows.
const OUTPUT_BYTES_MAX: u128 = 256 << 20;

/// What an element of a list takes while the list is made.
const ELEMENT_BYTES: u128 = 64;

/// How the size of an answer follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// `repeat(text, count)`.
    Times,
    /// `array_repeat(element, count)` and `array_resize(list, count)`: an element takes [`ELEMENT_BYTES`] besides what it says.
    Elements,
    /// `lpad(text, characters, fill)`: the second argument is the length of the answer.
    Length,
    /// `replace(text, from, to)`: at worst the text is nothing but `from`.
    Replaced,
    /// `regexp_replace(text, pattern, to)`: at worst each character is a match.
    Matched,
}

const GROWING: [(&str, Growth); 7] = [
    ("repeat", Growth::Times),
    ("array_repeat", Growth::Elements),
    ("lpad", Growth::Length),
    ("rpad", Growth::Length),
    ("array_resize", Growth::Elements),
    ("replace", Growth::Replaced),
    ("regexp_replace", Growth::Matched),
];

/// Makes lists of any length out of two numbers or times. As tables (`FROM generate_series(1, 10)`) they are made row by row, and stay.
const REMOVED: [&str; 2] = ["range", "generate_series"];

/// Puts limits on a session's functions.
pub(super) fn bound_functions(session: &SessionContext) {
    for name in REMOVED {
        session.deregister_udf(name);
    }
    for (name, growth) in GROWING {
        if let Ok(inner) = session.udf(name) {
            session.register_udf(ScalarUDF::new_from_impl(Bounded { inner: (*inner).clone(), growth }));
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

impl Bounded {
    /// Bytes of the answer, at the most.
    fn output_bytes(&self, args: &ScalarFunctionArgs) -> SqlResult<u128> {
        let Some(subject) = args.args.first().map(Sizes::new) else { return Ok(0) };
        let second = args.args.get(1);
        let numbers = match self.growth {
            Growth::Times | Growth::Elements | Growth::Length => second.map(Numbers::new).transpose()?,
            Growth::Replaced | Growth::Matched => None,
        };
        let from = second.map(Sizes::new);
        let replacement = args.args.get(2).map(Sizes::new);
        let rows = if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { 1 } else { args.number_rows };
        let mut total: u128 = 0;
        for row in 0..rows {
            let bytes = subject.at(row);
            let number = numbers.as_ref().map_or(0, |numbers| numbers.at(row));
            total += match self.growth {
                Growth::Times => bytes.max(1) * number,
                Growth::Elements => (bytes + ELEMENT_BYTES) * number,
                Growth::Length => bytes.max(number * 4),
                Growth::Replaced => bytes + (bytes / size(from.as_ref(), row) + 1) * size(replacement.as_ref(), row),
                Growth::Matched => (bytes + 1) * size(replacement.as_ref(), row),
            };
        }
        Ok(total)
    }
}

/// Bytes of the values of an argument. Lists and others count their mean.
enum Sizes<'a> {
    Same(u128),
    Text(&'a arrow::array::StringArray),
}

impl<'a> Sizes<'a> {
    fn new(value: &'a ColumnarValue) -> Self {
        match value {
            ColumnarValue::Scalar(scalar) => {
                Self::Same(scalar.try_as_str().flatten().map_or_else(|| scalar.size(), str::len) as u128)
            }
            ColumnarValue::Array(array) => match array.as_string_opt::<i32>() {
                Some(text) => Self::Text(text),
                None => Self::Same((array.get_array_memory_size() / array.len().max(1)) as u128),
            },
        }
    }

    fn at(&self, row: usize) -> u128 {
        match self {
            Self::Same(bytes) => *bytes,
            Self::Text(text) if text.is_valid(row) => text.value_length(row).unsigned_abs().into(),
            Self::Text(_) => 0,
        }
    }
}

/// At least one, as an empty text is found before every character.
fn size(sizes: Option<&Sizes<'_>>, row: usize) -> u128 {
    sizes.map_or(1, |sizes| sizes.at(row).max(1))
}

/// Counts and lengths; what is below zero or NULL makes nothing.
enum Numbers {
    Same(u128),
    Rows(ArrayRef),
}

impl Numbers {
    fn new(value: &ColumnarValue) -> SqlResult<Self> {
        let of = |array: &ArrayRef| cast(array, &DataType::Int64).map_err(DataFusionError::from);
        Ok(match value {
            ColumnarValue::Scalar(scalar) => Self::Same(number(&of(&scalar.to_array()?)?, 0)),
            ColumnarValue::Array(array) => Self::Rows(of(array)?),
        })
    }

    fn at(&self, row: usize) -> u128 {
        match self {
            Self::Same(number) => *number,
            Self::Rows(array) => number(array, row),
        }
    }
}

fn number(array: &ArrayRef, row: usize) -> u128 {
    let numbers = array.as_primitive::<Int64Type>();
    if numbers.is_null(row) { 0 } else { u128::try_from(numbers.value(row)).unwrap_or(0) }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> SqlResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> SqlResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> SqlResult<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> SqlResult<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> SqlResult<ColumnarValue> {
        let bytes = self.output_bytes(&args)?;
        if bytes > OUTPUT_BYTES_MAX {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{}() would make up to {} MiB of one batch of rows; at most {} MiB",
                self.name(),
                bytes >> 20,
                OUTPUT_BYTES_MAX >> 20
            )));
        }
        self.inner.invoke_with_args(args)
    }
}
