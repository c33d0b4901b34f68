//! Parts that occur more than once, in one expression or in those of a group of rules: they are evaluated once.

use super::context::{Context, QueryRange, Timeline};
use super::eval::Sink;
use super::series::{StepSeries, labels_bytes};
use crate::syntax::ast::{Expr, ExprKind, Type};
use br_model::labels::METRIC_NAME;
use br_std::Result;
use br_storage::MatchOp;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What is kept for a later use may hold this much; a part that needs more is evaluated each time, series by series.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// Expressions with more parts than this are not looked at: what they share would not pay for finding it.
const PARTS_MAX: usize = 300;

type Map<K, V> = HashMap<K, V, RandomState>;

/// The parts that several expressions have in common, by their text.
#[derive(Debug, Default)]
pub struct CommonParts {
    texts: HashSet<Arc<str>, RandomState>,
}

impl CommonParts {
    /// `written` are the metrics that evaluating these expressions changes, as the rules of a group do: what reads them, or may
    /// read them, has no value that could be kept.
    pub fn of<'e>(expressions: impl IntoIterator<Item = &'e Expr>, written: &[&str]) -> Self {
        let expressions: Vec<&Expr> = expressions.into_iter().filter(|expr| parts(expr) <= PARTS_MAX).collect();
        // Most queries read one thing: they need not be written out to see that nothing in them occurs twice.
        if expressions.iter().map(|expr| selectors(expr)).sum::<usize>() < 2 {
            return Self::default();
        }
        let mut found = Finder { written, seen: HashSet::default(), repeated: HashSet::default() };
        for expr in expressions {
            found.look_at(expr);
        }
        Self { texts: found.repeated }
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The parts themselves, sorted.
    pub fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.texts.iter().map(AsRef::as_ref).collect();
        texts.sort_unstable();
        texts
    }
}

struct Finder<'w> {
    written: &'w [&'w str],
    seen: HashSet<Arc<str>, RandomState>,
    repeated: HashSet<Arc<str>, RandomState>,
}

impl Finder<'_> {
    /// Inside a part that was seen before nothing is looked at again: only its first time evaluates it.
    fn look_at(&mut self, expr: &Expr) {
        if is_worth_keeping(expr) && self.is_lasting(expr) {
            let text: Arc<str> = expr.to_string().into();
            if !self.seen.insert(text.clone()) {
                self.repeated.insert(text);
                return;
            }
        }
        for child in evaluated(expr) {
            self.look_at(child);
        }
    }

    fn is_lasting(&self, expr: &Expr) -> bool {
        if let ExprKind::Vector(selector) = &expr.kind {
            let may_read = |written: &&str| {
                let mut names = selector.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME);
                names.all(|matcher| matcher.op != MatchOp::Equal || matcher.value == **written)
            };
            return !self.written.iter().any(may_read);
        }
        let reads_any = |expr: &Expr| matches!(&expr.kind, ExprKind::Call { function, .. } if function.name == "info");
        (self.written.is_empty() || !reads_any(expr)) && expr.children().into_iter().all(|child| self.is_lasting(child))
    }
}

/// Vectors that read something.
fn is_worth_keeping(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Vector(_) => true,
        ExprKind::Call { .. } | ExprKind::Aggregate { .. } | ExprKind::Binary { .. } => {
            expr.value_type() == Type::Vector && selectors(expr) > 0
        }
        _ => false,
    }
}

/// The parts that are evaluated by themselves: a range reads its series another way.
fn evaluated(expr: &Expr) -> Vec<&Expr> {
    if matches!(expr.kind, ExprKind::Matrix { .. }) { Vec::new() } else { expr.children() }
}

fn parts(expr: &Expr) -> usize {
    1 + expr.children().into_iter().map(parts).sum::<usize>()
}

fn selectors(expr: &Expr) -> usize {
    match expr.kind {
        ExprKind::Vector(_) => 1,
        _ => expr.children().into_iter().map(selectors).sum(),
    }
}

/// What common parts gave, for one moment of the data.
#[derive(Debug, Default)]
pub struct SharedValues {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    values: Map<Key, Arc<Vec<StepSeries>>>,
    bytes: u64,
}

impl SharedValues {
    /// Unless there is no room for it, here or among what the query may hold.
    fn keep(&self, context: &Context, key: Key, series: Vec<StepSeries>, bytes: u64) {
        let mut kept = self.kept.lock();
        if kept.bytes + bytes > KEPT_BYTES_MAX {
            return;
        }
        if context.budget.charge(bytes).is_err() {
            context.budget.release(bytes);
            return;
        }
        kept.bytes += bytes;
        kept.values.insert(key, Arc::new(series));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    text: Arc<str>,
    timeline: Timeline,
    query: QueryRange,
    histogram_stats: bool,
}

/// The common parts of the expression that is being evaluated, and where their values are.
pub(crate) struct Sharing<'a> {
    /// By where the part lies in the tree, which stays where it is as long as this lives.
    marks: Map<*const Expr, Arc<str>>,
    values: &'a SharedValues,
}

impl<'a> Sharing<'a> {
    pub(super) fn new(expr: &'a Expr, common: &CommonParts, values: &'a SharedValues) -> Self {
        let mut marks = Map::default();
        if !common.is_empty() && parts(expr) <= PARTS_MAX {
            mark(expr, common, &mut marks);
        }
        Self { marks, values }
    }
}

fn mark(expr: &Expr, common: &CommonParts, marks: &mut Map<*const Expr, Arc<str>>) {
    if is_worth_keeping(expr)
        && let Some(text) = common.texts.get(expr.to_string().as_str())
    {
        marks.insert(std::ptr::from_ref(expr), text.clone());
    }
    for child in evaluated(expr) {
        mark(child, common, marks);
    }
}

/// Hands on what `evaluate` gives for a part, from an earlier time where there was one.
pub(super) fn each(
    context: &Context,
    expr: &Expr,
    sink: &mut Sink,
    evaluate: impl FnOnce(&Context, &mut Sink) -> Result<()>,
) -> Result<()> {
    let Some(sharing) = context.sharing else { return evaluate(context, sink) };
    let Some(text) = sharing.marks.get(&std::ptr::from_ref(expr)) else { return evaluate(context, sink) };
    let Context { timeline, query, histogram_stats, .. } = *context;
    let key = Key { text: text.clone(), timeline, query, histogram_stats };
    let known = sharing.values.kept.lock().values.get(&key).cloned();
    if let Some(known) = known {
        return known.iter().cloned().try_for_each(sink);
    }
    let (notes_before, mut bytes) = (context.notes.count(), 0);
    let mut series_seen = Some(Vec::new());
    evaluate(context, &mut |series| {
        bytes += series.points.bytes() + labels_bytes(&series.labels);
        if bytes > KEPT_BYTES_MAX {
            series_seen = None;
        }
        if let Some(seen) = &mut series_seen {
            seen.push(series.clone());
        }
        sink(series)
    })?;
    // A remark names its place in the text: the next time the part stands elsewhere.
    if let Some(seen) = series_seen
        && context.notes.count() == notes_before
    {
        sharing.values.keep(context, key, seen, bytes);
    }
    Ok(())
}
