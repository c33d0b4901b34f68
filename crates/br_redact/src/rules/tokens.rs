//! Keys of clouds and vendors that say themselves what they are.
//!
//! Sources: the vendors' documentation of their formats.

use super::{before, is_word, run};
use std::ops::Range;

#[derive(Clone, Copy)]
enum Alphabet {
    /// Letters and digits.
    Alnum,
    /// These, `_` and `-`.
    Url,
    /// Capitals and digits.
    Upper,
    Hex,
    /// As [`Alphabet::Url`], and dots.
    Dotted,
}

struct Token {
    prefix: &'static [u8],
    alphabet: Alphabet,
    /// Behind the prefix.
    least: usize,
    most: usize,
}

const fn token(prefix: &'static str, alphabet: Alphabet, least: usize, most: usize) -> Token {
    Token { prefix: prefix.as_bytes(), alphabet, least, most }
}

use Alphabet::{Alnum, Dotted, Hex, Upper, Url};

/// One line for each kind. Where one prefix begins another, the longer one stands first.
const TOKENS: &[Token] = &[
    // GitHub.
    token("ghp_", Alnum, 36, 255),
    token("gho_", Alnum, 36, 255),
    token("ghu_", Alnum, 36, 255),
    token("ghs_", Alnum, 36, 255),
    token("ghr_", Alnum, 36, 255),
    token("github_pat_", Url, 50, 255),
    // GitLab.
    token("glpat-", Dotted, 20, 100),
    token("gldt-", Url, 20, 100),
    token("glrt-", Url, 20, 100),
    token("glptt-", Url, 20, 100),
    token("glcbt-", Url, 20, 100),
    // Amazon: the half that is an id marks that the other half is near.
    token("AKIA", Upper, 16, 16),
    token("ASIA", Upper, 16, 16),
    token("ABIA", Upper, 16, 16),
    token("ACCA", Upper, 16, 16),
    // Google.
    token("AIza", Url, 35, 35),
    token("ya29.", Dotted, 20, 2048),
    token("GOCSPX-", Url, 28, 28),
    // Slack.
    token("xoxb-", Url, 16, 255),
    token("xoxp-", Url, 16, 255),
    token("xoxa-", Url, 16, 255),
    token("xoxr-", Url, 16, 255),
    token("xoxs-", Url, 16, 255),
    token("xoxe-", Url, 16, 255),
    token("xoxe.", Dotted, 16, 512),
    token("xapp-", Url, 16, 255),
    // Stripe.
    token("sk_live_", Alnum, 16, 255),
    token("sk_test_", Alnum, 16, 255),
    token("rk_live_", Alnum, 16, 255),
    token("rk_test_", Alnum, 16, 255),
    token("whsec_", Alnum, 24, 255),
    // OpenAI, Anthropic, and others that serve models.
    token("sk-ant-", Url, 24, 255),
    token("sk-proj-", Url, 24, 255),
    token("sk-svcacct-", Url, 24, 255),
    token("sk-admin-", Url, 24, 255),
    token("sk-or-v1-", Hex, 64, 64),
    token("sk-", Alnum, 32, 64),
    token("hf_", Alnum, 30, 64),
    token("gsk_", Alnum, 40, 64),
    token("pplx-", Alnum, 40, 64),
    token("nvapi-", Url, 40, 100),
    token("r8_", Alnum, 37, 40),
    // Registries of packages and images.
    token("npm_", Alnum, 36, 36),
    token("pypi-AgE", Url, 50, 512),
    token("rubygems_", Hex, 48, 48),
    token("dckr_pat_", Url, 20, 64),
    token("cio", Alnum, 32, 32),
    // Mail and messages.
    token("SG.", Dotted, 50, 100),
    token("xkeysib-", Url, 64, 100),
    token("key-", Hex, 32, 32),
    token("SK", Hex, 32, 32),
    // Platforms.
    token("dop_v1_", Hex, 64, 64),
    token("doo_v1_", Hex, 64, 64),
    token("dor_v1_", Hex, 64, 64),
    token("shpat_", Hex, 32, 32),
    token("shpca_", Hex, 32, 32),
    token("shppa_", Hex, 32, 32),
    token("shpss_", Hex, 32, 32),
    token("sntrys_", Dotted, 40, 512),
    token("sntryu_", Hex, 64, 64),
    token("glsa_", Url, 32, 64),
    token("glc_", Alnum, 32, 400),
    token("hvs.", Url, 24, 255),
    token("hvb.", Url, 24, 512),
    token("lin_api_", Alnum, 40, 40),
    token("figd_", Url, 40, 64),
    token("PMAK-", Url, 59, 64),
    token("NRAK-", Upper, 27, 27),
    token("sq0atp-", Url, 22, 22),
    token("sq0csp-", Url, 43, 43),
    token("AGE-SECRET-KEY-1", Upper, 58, 58),
    token("tskey-", Url, 20, 100),
    token("pscale_tkn_", Dotted, 32, 64),
    token("pscale_pw_", Dotted, 32, 64),
    token("pscale_oauth_", Dotted, 32, 64),
    token("dapi", Hex, 32, 32),
    token("ATATT3", Url, 100, 255),
    token("eyJrIjoi", Alnum, 40, 200),
    token("secret_", Alnum, 43, 43),
    token("pat-na1-", Url, 36, 36),
    token("pul-", Hex, 40, 40),
    token("rnd_", Alnum, 32, 32),
    token("sbp_", Hex, 40, 40),
    token("bkua_", Hex, 40, 40),
    token("EAAA", Url, 60, 255),
];

/// The first two bytes of all prefixes: one look tells most words apart.
static PAIRS: Pairs = Pairs::new();

struct Pairs([u64; 1024]);

impl Pairs {
    const fn new() -> Self {
        let mut bits = [0; 1024];
        let mut at = 0;
        while at < TOKENS.len() {
            let place = (TOKENS[at].prefix[0] as usize) << 8 | TOKENS[at].prefix[1] as usize;
            bits[place >> 6] |= 1 << (place & 63);
            at += 1;
        }
        Self(bits)
    }
}

#[inline]
pub(crate) fn may_begin(first: u8, second: u8) -> bool {
    let place = usize::from(first) << 8 | usize::from(second);
    PAIRS.0[place >> 6] >> (place & 63) & 1 == 1
}

/// `start` begins a word.
pub(crate) fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    TOKENS.iter().filter(|token| rest.starts_with(token.prefix)).find_map(|token| fit(text, start, token))
}

fn fit(text: &[u8], start: usize, token: &Token) -> Option<Range<usize>> {
    let from = start + token.prefix.len();
    let is_part = |byte: u8| match token.alphabet {
        Alnum => byte.is_ascii_alphanumeric(),
        Url => is_word(byte) || byte == b'-',
        Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Hex => byte.is_ascii_hexdigit(),
        Dotted => is_word(byte) || matches!(byte, b'-' | b'.'),
    };
    let mut end = run(text, from, token.most, is_part);
    while end > from && matches!(before(text, end), b'.' | b'-') {
        end -= 1;
    }
    let value = &text[from..end];
    let goes_on = text.get(end).is_some_and(|byte| is_word(*byte));
    // Words alone are names; what is drawn at random has digits.
    let is_random = value.iter().any(u8::is_ascii_digit);
    (value.len() >= token.least && !goes_on && is_random).then_some(start..end)
}

/// Telegram's: an id of digits, a colon, and 35 signs. `start` begins a run of digits.
pub(crate) fn telegram(text: &[u8], start: usize, digits_end: usize) -> Option<Range<usize>> {
    if !(8..=10).contains(&(digits_end - start)) || text.get(digits_end) != Some(&b':') {
        return None;
    }
    let end = run(text, digits_end + 1, 36, |byte| is_word(byte) || byte == b'-');
    (end == digits_end + 36 && text[digits_end + 1..].starts_with(b"AA")).then_some(start..end)
}

/// What stands behind `hooks.slack.com/services/`: whoever knows it may write. `start` begins the word `hooks`.
pub(crate) fn slack_hook(text: &[u8], start: usize) -> Option<Range<usize>> {
    const PLACE: &[u8] = b"hooks.slack.com/services/";
    if !text[start..].starts_with(PLACE) {
        return None;
    }
    let from = start + PLACE.len();
    let end = run(text, from, 128, |byte| is_word(byte) || byte == b'/');
    (end > from + 16).then_some(from..end)
}
