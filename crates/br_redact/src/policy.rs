//! What is to be masked, as an operator says it, and the same made ready.

use crate::clean::CleanSets;
use crate::keys::Keys;
use crate::mask::{Action, HashKey};
use crate::rule::{FIRST_PATTERN, PATTERNS_MAX, RULES, Rule, RuleId, RuleSet};
use br_std::{Error, Result};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use std::collections::BTreeMap;

/// The rules that apply, by name; what is not named is as [`RULES`] has it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// On or off, for rules that are built in.
    pub rules: BTreeMap<String, bool>,
    /// Further names whose values are secret.
    pub keys: Vec<String>,
    pub patterns: Vec<Pattern>,
    pub exceptions: Vec<Exception>,
    pub action: Action,
    /// What hashes are made with.
    pub hash_key: Vec<u8>,
}

/// A user's own rule.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub name: String,
    /// In the syntax of the `regex` crate, over bytes: `\d`, `\w` and `(?i)` know ASCII. A group named `secret` is masked alone.
    pub regex: String,
}

/// Where rules do not apply. What is not said is anything.
#[derive(Clone, Debug, Default)]
pub struct Exception {
    /// The value of `service.name`.
    pub service: Option<String>,
    /// The name of an attribute, label or member; a `*` at the end stands for the rest.
    pub key: Option<String>,
    /// Names of rules; all when there are none.
    pub rules: Vec<String>,
}

/// An expression may take so many bytes, and so many more for what it learns as it runs.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A policy made ready: it masks bodies.
#[derive(Debug)]
pub struct Redactor {
    pub(crate) rules: RuleSet,
    pub(crate) keys: Keys,
    pub(crate) patterns: Option<Patterns>,
    pub(crate) exceptions: Vec<ReadyException>,
    pub(crate) has_services: bool,
    pub(crate) hash_key: Option<HashKey>,
    /// Of this policy alone: another begins anew.
    pub(crate) clean: CleanSets,
    names: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Patterns {
    pub(crate) regex: Regex,
    /// The number of the group that is masked, for each pattern.
    pub(crate) groups: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct ReadyException {
    service: Option<String>,
    /// Whether it is the beginning of the name.
    key: Option<(String, bool)>,
    pub(crate) rules: RuleSet,
}

impl ReadyException {
    /// An exception that names no service is of every one.
    pub(crate) fn is_of_service(&self, service: &[u8]) -> bool {
        self.service.as_ref().is_none_or(|name| name.as_bytes() == service)
    }

    /// An exception that names no key is of every one.
    pub(crate) fn is_of_key(&self, name: &[u8]) -> bool {
        match &self.key {
            Some((key, true)) => name.get(..key.len()).is_some_and(|head| head.eq_ignore_ascii_case(key.as_bytes())),
            Some((key, false)) => name.eq_ignore_ascii_case(key.as_bytes()),
            None => true,
        }
    }

    pub(crate) fn has_no_key(&self) -> bool {
        self.key.is_none()
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

impl Default for Redactor {
    fn default() -> Self {
        match Self::new(&Policy::default()) {
            Ok(redactor) => redactor,
            Err(error) => unreachable!("the default policy has no patterns and no names: {error}"),
        }
    }
}

impl Redactor {
    /// An error says which part of the policy cannot be.
    pub fn new(policy: &Policy) -> Result<Self> {
        let mut names: Vec<String> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        let mut rules = RuleSet::EMPTY;
        for described in &RULES {
            rules.set(described.rule as RuleId, described.is_default);
        }
        for (name, is_on) in &policy.rules {
            rules.set(built_in(name)? as RuleId, *is_on);
        }
        let patterns = compile(&policy.patterns, &mut names)?;
        for at in 0..policy.patterns.len() {
            rules.set(FIRST_PATTERN + at as RuleId, true);
        }
        let ready = |exception: &Exception| ready(exception, &names);
        let exceptions: Vec<ReadyException> = policy.exceptions.iter().map(ready).collect::<Result<_>>()?;
        if policy.action == Action::Hash && policy.hash_key.len() < HASH_KEY_BYTES_MIN {
            return Err(Error::fix_request(format!("hashes need a key of {HASH_KEY_BYTES_MIN} bytes at least")));
        }
        let has_services = exceptions.iter().any(|exception| exception.service.is_some());
        let hash_key = (policy.action == Action::Hash).then(|| HashKey::new(&policy.hash_key));
        Ok(Self {
            rules,
            keys: Keys::new(&policy.keys),
            patterns,
            exceptions,
            has_services,
            hash_key,
            clean: CleanSets::default(),
            names,
        })
    }

    pub(crate) fn rule_name(&self, id: RuleId) -> &str {
        self.names.get(usize::from(id)).map_or("", String::as_str)
    }

    pub(crate) fn rule_count(&self) -> usize {
        self.names.len()
    }

    /// The names of all rules that apply.
    pub fn active_rules(&self) -> Vec<&str> {
        let ids = (0..self.names.len() as RuleId).filter(|id| self.rules.has_id(*id));
        ids.map(|id| self.rule_name(id)).collect()
    }
}

/// A short key can be guessed, and with it every value of few digits.
const HASH_KEY_BYTES_MIN: usize = 16;

fn built_in(name: &str) -> Result<Rule> {
    let found = RULES.iter().find(|described| described.name == name);
    found.map(|described| described.rule).ok_or_else(|| {
        let names: Vec<&str> = RULES.iter().map(|described| described.name).collect();
        Error::fix_request(format!("no rule {name:?}; there are {}", names.join(", ")))
    })
}

fn ready(exception: &Exception, names: &[String]) -> Result<ReadyException> {
    if exception.service.is_none() && exception.key.is_none() {
        return Err(Error::fix_request("an exception names a service, a key or both; to do without a rule, switch it off"));
    }
    let mut rules = RuleSet::EMPTY;
    for name in &exception.rules {
        let at = names.iter().position(|other| other == name);
        let at = at.ok_or_else(|| Error::fix_request(format!("an exception names a rule {name:?} that there is not")))?;
        rules.set(at as RuleId, true);
    }
    let rules = if exception.rules.is_empty() { RuleSet::all() } else { rules };
    let key = exception.key.as_ref().map(|key| match key.strip_suffix('*') {
        Some(head) => (head.to_owned(), true),
        None => (key.clone(), false),
    });
    Ok(ReadyException { service: exception.service.clone(), key, rules })
}

fn compile(patterns: &[Pattern], names: &mut Vec<String>) -> Result<Option<Patterns>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    if patterns.len() > PATTERNS_MAX {
        return Err(Error::fix_request(format!("{} patterns, at most {PATTERNS_MAX} are taken", patterns.len())));
    }
    let mut groups = Vec::new();
    for Pattern { name, regex } in patterns {
        let is_name = !name.is_empty()
            && name.len() <= 32
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name || names.contains(name) {
            return Err(Error::fix_request(format!(
                "pattern {name:?}: a name of a-z, 0-9 and _ that nothing else has is needed"
            )));
        }
        names.push(name.clone());
        let one = build(&[regex.as_str()]).map_err(|error| Error::fix_request(format!("pattern {name:?}: {error}")))?;
        if one.is_match(b"") {
            return Err(Error::fix_request(format!("pattern {name:?} matches where there is nothing")));
        }
        let group = one.group_info().to_index(regex_automata::PatternID::ZERO, "secret");
        groups.push(group.unwrap_or(0));
    }
    let all: Vec<&str> = patterns.iter().map(|pattern| pattern.regex.as_str()).collect();
    let regex = build(&all).map_err(|error| Error::fix_request(format!("the patterns together: {error}")))?;
    Ok(Some(Patterns { regex, groups }))
}

fn build(patterns: &[&str]) -> std::result::Result<Regex, String> {
    // ASCII alone: the same expression runs ten times as fast.
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let config = Regex::config().utf8_empty(false).nfa_size_limit(Some(REGEX_BYTES_MAX)).hybrid_cache_capacity(REGEX_BYTES_MAX);
    Regex::builder().syntax(syntax).configure(config).build_many(patterns).map_err(|error| {
        let too_large = error.size_limit().map(|limit| format!("it takes more than {limit} bytes"));
        too_large.or_else(|| error.syntax_error().map(ToString::to_string)).unwrap_or_else(|| error.to_string())
    })
}
