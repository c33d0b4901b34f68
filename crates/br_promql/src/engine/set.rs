//! `and`, `or` and `unless`.

use super::context::Context;
use super::eval::{Sink, vector};
use super::matching::signature;
use super::series::{StepSeries, labels_bytes};
use crate::syntax::ast::{BinaryOp, Expr, Matching};
use br_model::Labels;
use br_std::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub(super) fn evaluate(
    context: &Context,
    op: BinaryOp,
    matching: &Matching,
    lhs: &Expr,
    rhs: &Expr,
    sink: &mut Sink,
) -> Result<()> {
    let (left, right) = (vector(context, lhs)?, vector(context, rhs)?);
    if op == BinaryOp::Or {
        let present = presence(context, &left, matching)?;
        left.into_iter().try_for_each(&mut *sink)?;
        return filter(right, &present, false, matching, sink);
    }
    let present = presence(context, &right, matching)?;
    filter(left, &present, op == BinaryOp::And, matching, sink)
}

/// For each signature, the steps at which any of the series has a value.
fn presence(context: &Context, side: &[StepSeries], matching: &Matching) -> Result<HashMap<Labels, Vec<bool>>> {
    let mut present: HashMap<Labels, Vec<bool>> = HashMap::new();
    for series in side {
        let steps = match present.entry(signature(&series.labels, matching)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                context.budget.charge(context.steps() as u64 + labels_bytes(new.key()))?;
                new.insert(vec![false; context.steps()])
            }
        };
        for (step, is_present) in steps.iter_mut().enumerate() {
            *is_present |= series.points.is_present(step);
        }
    }
    Ok(present)
}

/// Keeps values at those steps where the signature's presence is `wanted`.
fn filter(
    side: Vec<StepSeries>,
    present: &HashMap<Labels, Vec<bool>>,
    wanted: bool,
    matching: &Matching,
    sink: &mut Sink,
) -> Result<()> {
    for mut series in side {
        let steps = present.get(&signature(&series.labels, matching));
        for step in 0..series.points.len() {
            if steps.is_some_and(|steps| steps[step]) != wanted {
                series.points.set(step, None);
            }
        }
        if !series.points.is_all_absent() {
            sink(series)?;
        }
    }
    Ok(())
}
