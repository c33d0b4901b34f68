//! Runs unit tests: time passes step by step, and what comes out is compared.

use super::compare::{self, Difference};
use super::file::{AlertCase, ExpectedAlert, ExpressionCase, Test, TestFile};
use super::{Failure, FileReport, TestReport, read};
use crate::memory::Memory;
use crate::notation::Loader;
use crate::{files, lint, results};
use br_model::{Labels, Sample, Value};
use br_promql::{Engine, Expr, format_float};
use br_rules::{
    Alert, AlertState, Effect, Environment, Group, ParseOptions, ResultSample, Rule, RuleKind, RuleSample, RuleState, Severity,
};
use br_std::Nanos;
use br_std::re2::Regex;
use br_storage::Budget;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Only tests whose name matches.
    pub names: Option<&'a Regex>,
    /// In rule files; never in the test file.
    pub ignore_unknown_fields: bool,
    /// Keep all series of each test.
    pub dump: bool,
}

/// Runs the tests of a file. `folder` is where the patterns of its `rule_files` begin.
pub fn run(text: &str, folder: &Path, options: Options<'_>) -> FileReport {
    let mut report = FileReport::default();
    let file = match read(text) {
        Ok(file) => file,
        Err(complaints) => {
            report.complaints = complaints;
            return report;
        }
    };
    let rules = rule_files(&file, folder, options, &mut report.warnings);
    for (at, test) in file.tests.iter().enumerate() {
        let name = test.name.as_deref().unwrap_or_default();
        if options.names.is_some_and(|names| !names.is_match(name)) {
            continue;
        }
        let name = test.name.clone().unwrap_or_else(|| format!("unnamed#{at}"));
        let (failures, dump) = run_test(&file, test, &rules, options);
        report.tests.push(TestReport { name, position: test.position, failures, dump });
    }
    report
}

/// The groups of all rule files in the order of evaluation, with their files' names; or what is wrong with the files.
type Groups = Result<Vec<(String, Group)>, Vec<String>>;

fn rule_files(file: &TestFile, folder: &Path, options: Options<'_>, warnings: &mut Vec<String>) -> Groups {
    let mut groups = Vec::new();
    let mut errors = Vec::new();
    for pattern in &file.rule_files {
        let paths = files::matching(folder, pattern).unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        if paths.is_empty() {
            warnings.push(format!("no file matches {pattern:?}"));
        }
        for path in paths {
            let name = path.display().to_string();
            let text = match files::read(&path) {
                Ok(text) => text,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let parse_options = ParseOptions { ignore_unknown_fields: options.ignore_unknown_fields, ..ParseOptions::default() };
            let lint = lint::lint(&name, &text, parse_options);
            let wrong = lint.complaints.iter().filter(|complaint| complaint.severity == Severity::Error);
            errors.extend(wrong.map(|complaint| format!("{name}:{complaint}")));
            groups.extend(lint.file.groups.into_iter().map(|group| (name.clone(), group)));
        }
    }
    // Groups that are not named come with the first, as in promtool; those of one place keep the order of the files.
    groups.sort_by_key(|(_, group)| file.group_eval_order.iter().position(|name| *name == group.name).unwrap_or(0));
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

fn run_test(file: &TestFile, test: &Test, groups: &Groups, options: Options<'_>) -> (Vec<Failure>, Vec<String>) {
    let fail = |message: String| Failure { position: test.position, message, difference: None };
    let groups = match groups {
        Ok(groups) => groups,
        Err(errors) => return (errors.iter().map(|error| fail(error.clone())).collect(), Vec::new()),
    };
    let mut world = match World::new(file, test, groups) {
        Ok(world) => world,
        Err(failure) => return (vec![failure], Vec::new()),
    };
    let failures = world.run(file, test);
    (failures, if options.dump { world.dump() } else { Vec::new() })
}

struct World<'t> {
    test: &'t Test,
    engine: Engine,
    memory: Memory,
    /// Samples of the input series that time has not reached.
    pending: BTreeMap<Labels, VecDeque<Sample>>,
    rules: Vec<RunningRule<'t>>,
}

struct RunningRule<'t> {
    rule: &'t Rule,
    expr: Expr,
    state: RuleState,
    query_offset_ms: i64,
}

/// Times are kept as nanoseconds where alerts are, which end in the year 2262.
const TIME_MS_MAX: i64 = i64::MAX / 1_000_000;

impl<'t> World<'t> {
    fn new(file: &TestFile, test: &'t Test, groups: &'t [(String, Group)]) -> Result<Self, Failure> {
        let fail = |message: String| Failure { position: test.position, message, difference: None };
        if test.start_ms.saturating_add(test.eval_time_max_ms()) > TIME_MS_MAX {
            return Err(fail("the last eval_time lies beyond the year 2262".to_owned()));
        }
        let mut loader = Loader::new(test.start_ms, test.interval_ms);
        let mut pending = BTreeMap::new();
        for input in &test.input_series {
            let loaded = loader.line(&format!("{} {}", input.series, input.values));
            let failed = |message: String| Failure { position: input.position, message, difference: None };
            if let Some((labels, samples)) = loaded.map_err(failed)? {
                // Of a series that is written twice the second counts.
                pending.insert(labels, VecDeque::from(samples));
            }
        }
        let mut rules = Vec::new();
        for (name, group) in groups {
            for rule in &group.rules {
                let expr = br_promql::parse(&rule.expression).map_err(|errors| fail(errors.to_string()))?;
                let Some(state) = RuleState::new(name, group, rule) else { continue };
                let query_offset_ms = group.query_offset.unwrap_or_default().as_millis() as i64;
                rules.push(RunningRule { rule, expr, state, query_offset_ms });
            }
        }
        let options = br_promql::Options { subquery_step_ms: file.evaluation_interval_ms, ..br_promql::Options::default() };
        Ok(Self { test, engine: Engine::new(options), memory: Memory::default(), pending, rules })
    }

    fn run(&mut self, file: &TestFile, test: &Test) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut alert_cases: Vec<&AlertCase> = test.alerts.iter().collect();
        alert_cases.sort_by_key(|case| case.eval_time_ms);
        let mut alert_cases = alert_cases.into_iter().peekable();
        let end_ms = test.eval_time_max_ms();
        let mut since_start_ms = 0i64;
        while since_start_ms <= end_ms {
            let at_ms = test.start_ms + since_start_ms;
            self.feed(at_ms);
            let errors = self.evaluate(at_ms);
            if !errors.is_empty() {
                failures.extend(errors);
                return failures;
            }
            // An alert is compared as the last evaluation before its time left it.
            let next_ms = since_start_ms.saturating_add(file.evaluation_interval_ms);
            while let Some(case) = alert_cases.next_if(|case| case.eval_time_ms < next_ms) {
                failures.extend(self.check_alerts(case));
            }
            since_start_ms = next_ms;
        }
        failures.extend(test.expressions.iter().filter_map(|case| self.check_expression(case, file.fuzzy_compare)));
        failures
    }

    /// Input up to a time, that time included.
    fn feed(&mut self, at_ms: i64) {
        for (labels, samples) in &mut self.pending {
            while let Some(sample) = samples.pop_front_if(|sample| sample.timestamp_ms <= at_ms) {
                // A rule has recorded under this name before: its samples stand.
                let _ = self.memory.append(labels.clone(), sample);
            }
        }
    }

    /// All rules, each seeing what those before it recorded.
    fn evaluate(&mut self, at_ms: i64) -> Vec<Failure> {
        let mut failures = Vec::new();
        let Self { test, engine, memory, rules, .. } = self;
        for running in rules {
            let query_at_ms = at_ms - running.query_offset_ms;
            let ask = |expr: &Expr, at_ms: i64| {
                let output = engine.instant(memory, expr, at_ms, &Budget::unlimited());
                output.and_then(results).map_err(|error| error.message().to_owned())
            };
            let query = |expression: &str, at: Nanos| {
                let expr = br_promql::parse(expression).map_err(|errors| errors.to_string())?;
                ask(&expr, at.as_millis())
            };
            let environment =
                Environment { external_labels: &test.external_labels, external_url: &test.external_url, query: &query };
            let stepped = ask(&running.expr, query_at_ms)
                .map(|samples| running.state.step(Nanos::from_millis(at_ms), &samples, &environment));
            let written = stepped.and_then(|outcome| match outcome.error {
                Some(error) => Err(error.to_string()),
                None => write(memory, query_at_ms, outcome.effects),
            });
            if let Err(error) = written {
                let time = time_text(at_ms - test.start_ms);
                let message = format!("rule {:?} at {time}: {error}", running.rule.name());
                failures.push(Failure { position: test.position, message, difference: None });
            }
        }
        failures
    }

    fn check_alerts(&self, case: &AlertCase) -> Option<Failure> {
        let of_name = self
            .rules
            .iter()
            .filter(|running| matches!(running.rule.kind, RuleKind::Alerting { .. }) && running.rule.name() == case.alertname);
        let found = of_name.flat_map(|running| {
            let firing = running.state.alerts().into_iter().filter(|alert| alert.state == AlertState::Firing);
            firing.map(|alert| as_expected(running.rule, alert)).collect::<Vec<ExpectedAlert>>()
        });
        let difference = compare::alerts(case.expected.clone(), found.collect())?;
        let message = format!("alerts {:?} at {}", case.alertname, time_text(case.eval_time_ms));
        Some(Failure { position: case.position, message, difference: Some(difference) })
    }

    fn check_expression(&self, case: &ExpressionCase, fuzzy: bool) -> Option<Failure> {
        let head = format!("expression {:?} at {}", case.expression, time_text(case.eval_time_ms));
        let fail =
            |message: String, difference: Option<Difference>| Some(Failure { position: case.position, message, difference });
        let difference = self.ask(case).and_then(|found| compare::samples(&case.expected, found, fuzzy));
        match difference {
            Ok(None) => None,
            Ok(difference) => fail(head, difference),
            Err(reason) => fail(format!("{head}: {reason}"), None),
        }
    }

    fn ask(&self, case: &ExpressionCase) -> Result<Vec<ResultSample>, String> {
        let expr = br_promql::parse(&case.expression).map_err(|errors| errors.to_string())?;
        let at_ms = self.test.start_ms + case.eval_time_ms;
        let output = self.engine.instant(&self.memory, &expr, at_ms, &Budget::unlimited());
        output.and_then(results).map_err(|error| error.message().to_owned())
    }

    /// All series, those of the rules among them, one a line.
    fn dump(&self) -> Vec<String> {
        let line = |(labels, samples): (&Labels, Vec<&Sample>)| {
            let words = samples.into_iter().map(|sample| {
                let value = match &sample.value {
                    value if value.is_stale() => "stale".to_owned(),
                    Value::Float(value) => format_float(*value),
                    Value::Histogram(histogram) => compare::shown(histogram),
                };
                format!("{value} @{}", time_text(sample.timestamp_ms - self.test.start_ms))
            });
            format!("{labels}: {}", words.collect::<Vec<String>>().join(", "))
        };
        self.memory.dump().map(|(labels, samples)| line((labels, samples.collect()))).collect()
    }
}

/// Adds what a rule writes; the last sample that clashes with another rule's or the input is the error.
/// The end of a series clashes where another rule goes on with it, which is fine.
fn write(memory: &mut Memory, at_ms: i64, effects: Vec<Effect>) -> Result<(), String> {
    let mut written = Ok(());
    for effect in effects {
        let Effect::Write(RuleSample { labels, value }) = effect else { continue };
        let is_end = value.is_stale();
        let appended = memory.append(labels.clone(), Sample { timestamp_ms: at_ms, value, start_ms: None });
        if let Err(error) = appended
            && !is_end
        {
            written = Err(format!("{labels}: {error}"));
        }
    }
    written
}

/// An alert as a test writes it. An annotation that expands to nothing is there all the same.
fn as_expected(rule: &Rule, alert: &Alert) -> ExpectedAlert {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let annotations = match &rule.kind {
        RuleKind::Alerting { annotations, .. } => annotations.as_slice(),
        RuleKind::Recording { .. } => &[],
    };
    let text_of = |name: &str| alert.annotations.get(name).unwrap_or_default().to_owned();
    ExpectedAlert {
        labels: alert.labels.iter().map(owned).collect(),
        annotations: annotations.iter().map(|annotation| (annotation.name.clone(), text_of(&annotation.name))).collect(),
    }
}

/// A time since the start of the test, as the test would write it.
fn time_text(millis: i64) -> String {
    let duration = br_std::duration::format(std::time::Duration::from_millis(millis.unsigned_abs()));
    if millis < 0 { format!("-{duration}") } else { duration }
}
