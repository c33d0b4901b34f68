//! Operators in a row: each takes what those before it gave. The row may be long, so nothing here calls itself for its next link.

use super::binary::{Operation, ScalarOperand, WithScalar, scalars};
use super::context::Context;
use super::eval::{Scalars, Sink, scalar, vector_each};
use super::held::{Charge, Held};
use super::matching;
use super::set::{self, Presence};
use crate::syntax::ast::{BinaryOp, Expr, ExprKind, Link, Type};
use br_std::{Error, Result};

/// Scalars that are held at once while series pass them; a longer row is cut, and its series are held between the parts.
const SCALARS_HELD_MAX: usize = 64;

/// A chain of which all operands are scalars.
pub(super) fn scalar_chain<'b>(context: &Context<'b>, first: &Expr, links: &[Link]) -> Result<Scalars<'b>> {
    let mut values = scalar(context, first)?;
    for link in links {
        let others = scalar(context, &link.rhs)?;
        for (value, other) in values.iter_mut().zip(&*others) {
            *value = scalars(link.op, *value, *other);
        }
    }
    Ok(values)
}

/// A chain that gives a vector, series by series.
pub(super) fn evaluate(context: &Context, expr: &Expr, sink: &mut Sink) -> Result<()> {
    let ExprKind::Binary { first, links } = &expr.kind else {
        return Err(Error::fix_request("not a binary expression"));
    };
    let trims = links.iter().rposition(|link| link.op.is_trim()).map_or(0, |last| last + 1);
    let chain = Chain { context, whole: context.with_histogram_stats(false), trims, first, links };
    chain.evaluate(sink)
}

struct Chain<'c, 'e> {
    context: &'c Context<'c>,
    /// For operands whose buckets are needed.
    whole: Context<'c>,
    /// So many links stand up to the last that looks at buckets.
    trims: usize,
    first: &'e Expr,
    links: &'e [Link],
}

/// What the links so far gave.
enum Before<'c, 'e> {
    /// The operand of this link, or what stands before it.
    Expr(&'e Expr, usize),
    Held(Held<'c>),
}

impl<'c, 'e> Chain<'c, 'e> {
    fn evaluate(&self, sink: &mut Sink) -> Result<()> {
        let (mut before, mut passed, mut at) = self.start()?;
        // The signatures of a row of `or`, which are looked at once for each series.
        let mut union: Option<Presence<'e, 'c>> = None;
        loop {
            let run = self.scalars_at(at, SCALARS_HELD_MAX);
            if run > at {
                union = None;
            }
            for link in at..run {
                passed.push(self.with_scalar(link, ScalarOperand::of(self.context_at(link), &self.links[link].rhs)?, false));
            }
            if run == self.links.len() {
                return self.pass(before, &passed, sink);
            }
            let mut left = match before {
                Before::Held(held) if passed.is_empty() => held,
                before => self.held(before, &passed)?,
            };
            passed.clear();
            let link = &self.links[run];
            at = run;
            if link.rhs.value_type() != Type::Scalar {
                left = self.join(run, left, &mut union)?;
                at = run + 1;
            }
            before = Before::Held(left);
        }
    }

    /// Where the first series come from, with what they pass first: a chain may begin with scalars.
    fn start(&self) -> Result<(Before<'c, 'e>, Vec<WithScalar<'c>>, usize)> {
        if self.first.value_type() != Type::Scalar {
            return Ok((Before::Expr(self.first, 0), Vec::new(), 0));
        }
        let at = self.scalars_at(0, usize::MAX);
        let Some(link) = self.links.get(at) else {
            return Err(Error::fix_request("expected an instant vector, got a scalar"));
        };
        let operand = if at == 0 {
            ScalarOperand::of(self.context_at(0), self.first)?
        } else {
            ScalarOperand::ByStep(scalar_chain(self.context_at(0), self.first, &self.links[..at])?)
        };
        Ok((Before::Expr(&link.rhs, at), vec![self.with_scalar(at, operand, true)], at + 1))
    }

    /// The end of the row of links with scalars that begins here.
    fn scalars_at(&self, at: usize, count_max: usize) -> usize {
        let row = self.links[at..].iter().take(count_max);
        at + row.take_while(|link| link.rhs.value_type() == Type::Scalar).count()
    }

    /// For the operand of a link, or for what stands before it.
    fn context_at(&self, link: usize) -> &Context<'c> {
        if link < self.trims { &self.whole } else { self.context }
    }

    fn operation(&self, at: usize) -> Operation {
        let link = &self.links[at];
        Operation { op: link.op, return_bool: link.return_bool, span: self.first.span.to(link.rhs.span) }
    }

    fn with_scalar(&self, at: usize, operand: ScalarOperand<'c>, scalar_is_left: bool) -> WithScalar<'c> {
        WithScalar { operation: self.operation(at), operand, scalar_is_left }
    }

    /// Hands on what came before, changed by the scalars that it passes.
    fn pass(&self, before: Before<'c, 'e>, passed: &[WithScalar], sink: &mut Sink) -> Result<()> {
        let mut through = |mut series| {
            let mut made = Charge::new(self.context.budget);
            for with_scalar in passed {
                made = with_scalar.apply(self.context, &mut series)?;
                if series.points.is_all_absent() {
                    return Ok(());
                }
            }
            drop(made);
            sink(series)
        };
        match before {
            Before::Expr(expr, link) => vector_each(self.context_at(link), expr, &mut through),
            Before::Held(held) => held.hand_on(&mut through),
        }
    }

    fn held(&self, before: Before<'c, 'e>, passed: &[WithScalar]) -> Result<Held<'c>> {
        let mut held = Held::new(self.context.budget);
        self.pass(before, passed, &mut |series| held.push(series))?;
        held.settle()?;
        Ok(held)
    }

    /// What a link makes of two vectors.
    fn join(&self, at: usize, left: Held<'c>, union: &mut Option<Presence<'e, 'c>>) -> Result<Held<'c>> {
        let (link, context) = (&self.links[at], self.context_at(at));
        let right = Held::of(context, &link.rhs)?;
        if link.op != BinaryOp::Or || at == 0 || self.links[at - 1].matching != link.matching {
            *union = None;
        }
        match link.op {
            BinaryOp::Or => set::or(context, &link.matching, left, right, union),
            BinaryOp::And | BinaryOp::Unless => set::filter(context, link.op, &link.matching, left, &right),
            _ => matching::evaluate(context, self.operation(at), &link.matching, left.series(), right.series()),
        }
    }
}
