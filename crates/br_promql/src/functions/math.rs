//! Functions from float to float: each value by itself.

use super::call::{Sink, argument};
use crate::engine::{Context, Scalars, scalar, vector_each};
use crate::syntax::ast::Expr;
use br_std::Result;

/// `None` when the function is not one of these.
pub(super) fn evaluate(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Option<Result<()>> {
    if let Some(change) = plain(name) {
        return Some(each(context, name, arguments, &mut |_, value| change(value), sink));
    }
    match name {
        "round" => Some(round(context, arguments, sink)),
        "clamp" | "clamp_min" | "clamp_max" => Some(clamp(context, name, arguments, sink)),
        _ => None,
    }
}

fn plain(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "sgn" => |value| {
            if value == 0.0 || value.is_nan() { value } else { value.signum() }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// Histograms are left out without a word.
fn each(
    context: &Context,
    name: &str,
    arguments: &[Expr],
    change: &mut dyn FnMut(usize, f64) -> f64,
    sink: &mut Sink,
) -> Result<()> {
    let delayed = context.options.delayed_name_removal;
    vector_each(context, argument(arguments, 0, name)?, &mut |mut series| {
        series.points.drop_histograms();
        if series.points.is_all_absent() {
            return Ok(());
        }
        series.points.map_floats(&mut *change);
        series.mark_name_dropped(delayed);
        sink(series)
    })
}

/// To the nearest multiple; halves go up. Dividing by the inverse keeps 0.1 and its like exact.
fn round(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let nearest = match arguments.get(1) {
        Some(expr) => scalar(context, expr)?,
        None => Scalars::same(context, 1.0)?,
    };
    let mut change = |step: usize, value: f64| {
        let inverse = 1.0 / nearest[step];
        (value * inverse + 0.5).floor() / inverse
    };
    each(context, "round", arguments, &mut change, sink)
}

/// As Go has it: minus infinity is less than anything, NaN included.
fn lesser(left: f64, right: f64) -> f64 {
    match (left, right) {
        _ if left == f64::NEG_INFINITY || right == f64::NEG_INFINITY => f64::NEG_INFINITY,
        _ if left.is_nan() || right.is_nan() => f64::NAN,
        _ if left == right => {
            if left.is_sign_negative() {
                left
            } else {
                right
            }
        }
        _ => left.min(right),
    }
}

/// The same in the other direction.
fn greater(left: f64, right: f64) -> f64 {
    -lesser(-left, -right)
}

fn clamp(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let steps = context.steps();
    let first = scalar(context, argument(arguments, 1, name)?)?;
    let (least, greatest) = match name {
        "clamp_min" => (first, Scalars::same(context, f64::INFINITY)?),
        "clamp_max" => (Scalars::same(context, f64::NEG_INFINITY)?, first),
        _ => (first, scalar(context, argument(arguments, 2, name)?)?),
    };
    let delayed = context.options.delayed_name_removal;
    vector_each(context, argument(arguments, 0, name)?, &mut |mut series| {
        series.points.drop_histograms();
        for step in 0..steps {
            // Also keeps the comparison's answer for NaN: bounds that do not compare are not crossed.
            if least[step] > greatest[step] {
                series.points.set(step, None);
            }
        }
        if series.points.is_all_absent() {
            return Ok(());
        }
        series.points.map_floats(|step, value| {
            let (least, greatest) = (least[step], greatest[step]);
            greater(least, lesser(greatest, value))
        });
        series.mark_name_dropped(delayed);
        sink(series)
    })
}
