//! Which frames of a stack tell one fault from another.

use super::{place, rules};
use crate::{Exception, Frame};

/// One frame, as far as it tells one fault from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    pub(super) place: String,
    pub(super) function: String,
}

pub(super) struct CallPath {
    /// Outermost first.
    pub(super) steps: Vec<Step>,
    /// How many frames do not count, and which ones these are.
    pub(super) left_out: [(usize, &'static str); 4],
}

impl CallPath {
    /// The frames that count: the service's own below the framework, or where there are none all of the libraries'.
    pub(super) fn of(exception: &Exception) -> Self {
        let frames: Vec<&Frame> = exception.frames.iter().filter(|frame| !rules::is_comprehension(&frame.function)).collect();
        let step = |frame: &&Frame| Step { place: place::place(frame), function: function_name(frame) };
        let all: Vec<(Step, bool)> =
            frames.iter().map(|frame| (step(frame), is_own(frame))).filter(|(step, _)| !step.is_blank()).collect();
        let has_own = all.iter().any(|(_, is_own)| *is_own);
        let innermost_own = all.iter().rposition(|(_, is_own)| *is_own).unwrap_or(0);
        let handed_over = all[..innermost_own].iter().rposition(|(step, is_own)| !is_own && rules::is_dispatcher(&step.place));
        let (outside, inside) = all.split_at(handed_over.unwrap_or(0));
        let middleware = outside.iter().filter(|(_, is_own)| *is_own).count();
        let mut steps: Vec<Step> = inside.iter().filter(|(_, is_own)| *is_own == has_own).map(|(step, _)| step.clone()).collect();
        let libraries = all.len() - steps.len() - middleware;
        let before = steps.len();
        drop_wrappers(&mut steps, has_own);
        let wrappers = before - steps.len();
        let before = steps.len();
        let steps = without_recursion(steps, exception.exception_type == "RecursionError");
        let recursive = before - steps.len();
        let left_out = [
            (libraries, "of libraries"),
            (middleware, "outside the framework"),
            (wrappers, "that only wrap"),
            (recursive, "of recursion"),
        ];
        Self { steps, left_out }
    }
}

impl Step {
    fn is_blank(&self) -> bool {
        self.place.is_empty() && self.function.is_empty()
    }
}

/// Whether the service's own code is in it.
pub(super) fn has_own_frames(exception: &Exception) -> bool {
    exception.frames.iter().any(is_own)
}

fn is_own(frame: &Frame) -> bool {
    frame.in_app && !place::is_standard_library(frame)
}

/// The innermost frame stays whatever it is: there it happened.
fn drop_wrappers(steps: &mut Vec<Step>, is_own: bool) {
    let Some(innermost) = steps.pop() else { return };
    if is_own {
        steps.retain(|step| !rules::is_wrapper_function(&step.function));
        // Where a program starts does not tell one fault from another: a span within `main` does not even see it.
        let entry = steps.iter().take_while(|step| step.function == "<module>").count();
        steps.drain(..entry);
    } else {
        steps.retain(|step| !rules::is_wrapper(&step.place));
    }
    steps.push(innermost);
}

/// Cycles longer than this are not looked for.
const CYCLE_MAX: usize = 8;

/// A cycle of calls counts once, however often it was gone through. Where the stack ran out, only the cycle counts: at which of
/// its functions that happens is chance.
fn without_recursion(steps: Vec<Step>, has_run_out: bool) -> Vec<Step> {
    if has_run_out {
        let mut sorted = steps.clone();
        sorted.sort();
        let often = sorted.chunk_by(|one, other| one == other).filter(|same| same.len() >= 3).map(|same| same[0].clone());
        let cycle: Vec<Step> = often.collect();
        if !cycle.is_empty() {
            return cycle;
        }
    }
    let mut folded: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        folded.push(step);
        let is_repeated = |length: &usize| {
            let (before, last) = folded.split_at(folded.len() - length);
            before.ends_with(last)
        };
        if let Some(length) = (1..=CYCLE_MAX.min(folded.len() / 2)).find(is_repeated) {
            folded.truncate(folded.len() - length);
        }
    }
    folded
}

/// Without class and enclosing functions, which few senders tell.
pub(super) fn function_name(frame: &Frame) -> String {
    let function = frame.function.trim();
    let bare = match function.rsplit_once('.') {
        Some((_, name)) if !name.is_empty() && !function.starts_with('<') => name,
        _ => function,
    };
    bare.to_owned()
}
