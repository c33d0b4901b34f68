//! The rules that are built in, and sets of them.

/// What a value was recognised as. Further rules are a user's own patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    Card,
    Iban,
    Email,
    UsSsn,
    UsSsnBare,
    NationalId,
    Phone,
    Ipv4,
    Ipv6,
    Mac,
    Jwt,
    Authorization,
    ApiKey,
    PrivateKey,
    UrlPassword,
    KeyName,
}

/// A rule as users see it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub rule: Rule,
    pub name: &'static str,
    /// Applied where the configuration says nothing.
    pub is_default: bool,
    /// What it recognises, and how it is sure.
    pub about: &'static str,
}

const fn described(rule: Rule, name: &'static str, is_default: bool, about: &'static str) -> Described {
    Described { rule, name, is_default, about }
}

/// All of them, in the order of their numbers.
pub const RULES: [Described; 16] = [
    described(Rule::Card, "card", true, "payment cards: issuer's range and length, Luhn's check digit"),
    described(Rule::Iban, "iban", true, "bank accounts: country, its length, remainder of 97"),
    described(Rule::Email, "email", true, "e-mail addresses with a domain of letters at the end"),
    described(Rule::UsSsn, "us_ssn", true, "US social security numbers beside a word that says so"),
    described(Rule::UsSsnBare, "us_ssn_bare", false, "the same anywhere, by their hyphens and ranges alone"),
    described(Rule::NationalId, "national_id", false, "other countries' numbers of persons, by check digit"),
    described(Rule::Phone, "phone", false, "telephone numbers with + or beside a word that says so"),
    described(Rule::Ipv4, "ipv4", false, "IPv4 addresses"),
    described(Rule::Ipv6, "ipv6", false, "IPv6 addresses"),
    described(Rule::Mac, "mac", false, "hardware addresses"),
    described(Rule::Jwt, "jwt", true, "JSON web tokens: the header is decoded"),
    described(Rule::Authorization, "authorization", true, "values behind Bearer, Basic and in Authorization and Cookie headers"),
    described(Rule::ApiKey, "api_key", true, "keys of clouds and vendors, by prefix, alphabet and length"),
    described(Rule::PrivateKey, "private_key", true, "private keys in PEM"),
    described(Rule::UrlPassword, "url_password", true, "passwords in addresses: scheme://user:password@host"),
    described(Rule::KeyName, "key_name", true, "values whose key is called password, secret, token and the like"),
];

/// A built-in rule, or a pattern behind them, by number.
pub(crate) type RuleId = u8;

/// The first number of a user's own pattern.
pub(crate) const FIRST_PATTERN: RuleId = RULES.len() as RuleId;
/// Patterns at the most: all numbers fit a set.
pub(crate) const PATTERNS_MAX: usize = 128 - RULES.len();

/// Rules by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleSet(u128);

impl RuleSet {
    pub(crate) const EMPTY: Self = Self(0);

    #[inline]
    pub(crate) fn has(self, rule: Rule) -> bool {
        self.has_id(rule as RuleId)
    }

    #[inline]
    pub(crate) fn has_id(self, id: RuleId) -> bool {
        self.0 >> id & 1 == 1
    }

    pub(crate) fn set(&mut self, id: RuleId, is_in: bool) {
        let bit = 1 << id;
        self.0 = if is_in { self.0 | bit } else { self.0 & !bit };
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn all() -> Self {
        Self(u128::MAX)
    }
}
