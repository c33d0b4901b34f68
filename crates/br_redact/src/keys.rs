//! Names that say that their value is a secret.
//!
//! A name is taken apart into words at separators and where its case changes, and its last words decide: `DB_PASSWORD`, `userPassword`
//! and `http.request.header.x-api-key` are secret, `monkey`, `author` and `token_count` are not.

/// How sure a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Secrecy {
    /// Tokens, keys, secrets: a short number under such a name counts something.
    Likely,
    /// Values of `Authorization` and `Cookie`.
    Header,
    /// Passwords and the like: whatever stands there.
    Certain,
}

const WORDS_MAX: usize = 4;
const WORD_BYTES_MAX: usize = 24;

/// The last words of a name, the last one first.
struct Tail {
    words: [[u8; WORD_BYTES_MAX]; WORDS_MAX],
    lengths: [usize; WORDS_MAX],
    count: usize,
}

impl Tail {
    fn of(name: &[u8]) -> Self {
        let mut tail = Self { words: [[0; WORD_BYTES_MAX]; WORDS_MAX], lengths: [0; WORDS_MAX], count: 0 };
        let mut end = name.len();
        while end > 0 && tail.count < WORDS_MAX {
            let start = word_start(name, end);
            let mut word = &name[start..end];
            if tail.count == 0 {
                // `password1` and `password2` are what forms call the two fields.
                word = word.trim_suffix_digits();
            }
            if !word.is_empty() {
                let kept = word.len().min(WORD_BYTES_MAX);
                for (to, from) in tail.words[tail.count].iter_mut().zip(word) {
                    *to = from.to_ascii_lowercase();
                }
                // A longer word is none that is looked for.
                tail.lengths[tail.count] = if word.len() > WORD_BYTES_MAX { 0 } else { kept };
                tail.count += 1;
            }
            end = start;
            while end > 0 && !name[end - 1].is_ascii_alphanumeric() {
                end -= 1;
            }
        }
        tail
    }

    fn word(&self, at: usize) -> &[u8] {
        if at < self.count { &self.words[at][..self.lengths[at]] } else { b"" }
    }
}

trait TrimDigits {
    fn trim_suffix_digits(&self) -> &Self;
}

impl TrimDigits for [u8] {
    fn trim_suffix_digits(&self) -> &Self {
        let kept = self.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        &self[..kept]
    }
}

/// Where the word begins that ends before `end`.
fn word_start(name: &[u8], end: usize) -> usize {
    let mut start = end;
    while start > 0 && name[start - 1].is_ascii_alphanumeric() {
        start -= 1;
        let Some(before) = start.checked_sub(1).map(|at| name[at]) else { break };
        let is_upper = name[start].is_ascii_uppercase();
        let begins_word = before.is_ascii_lowercase() || before.is_ascii_digit();
        let ends_acronym =
            before.is_ascii_uppercase() && name.get(start + 1).is_some_and(u8::is_ascii_lowercase) && start + 1 < end;
        if is_upper && (begins_word || ends_acronym) {
            break;
        }
    }
    start
}

/// Names of a user's own, as their words, the last one first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    own: Vec<Vec<Vec<u8>>>,
    endings: Endings,
}

/// The last two letters of names that may be secret: nine names in ten end otherwise.
#[derive(Clone, Debug)]
struct Endings([u32; 26]);

const KNOWN_ENDINGS: [&[u8; 2]; 23] = [
    b"rd", b"wd", b"se", b"pw", b"ss", b"et", b"en", b"ey", b"on", b"ie", b"es", b"ls", b"al", b"id", b"wt", b"vv", b"vc", b"sh",
    b"sn", b"ng", b"er", b"de", b"ts",
];

impl Default for Endings {
    fn default() -> Self {
        let mut endings = Self([0; 26]);
        for ending in KNOWN_ENDINGS {
            endings.add(*ending);
        }
        endings
    }
}

impl Endings {
    fn place([first, second]: [u8; 2]) -> Option<(usize, u32)> {
        let letter = |byte: u8| byte.to_ascii_lowercase().checked_sub(b'a').filter(|at| *at < 26);
        Some((usize::from(letter(first)?), 1 << letter(second)?))
    }

    fn add(&mut self, ending: [u8; 2]) {
        if let Some((at, bit)) = Self::place(ending) {
            self.0[at] |= bit;
        }
    }

    fn may_have(&self, name: &[u8]) -> bool {
        match name.trim_suffix_digits().last_chunk::<2>().map(|ending| Self::place(*ending)) {
            Some(Some((at, bit))) => self.0[at] & bit != 0,
            // Another script, or one letter.
            _ => false,
        }
    }
}

impl Keys {
    pub(crate) fn new(names: &[String]) -> Self {
        let mut keys = Self::default();
        for name in names {
            let tail = Tail::of(name.as_bytes());
            let words: Vec<Vec<u8>> = (0..tail.count).map(|at| tail.word(at).to_vec()).collect();
            if let Some(last) = words.first() {
                match last.last_chunk::<2>() {
                    Some(ending) => keys.endings.add(*ending),
                    None => keys.endings = Endings([u32::MAX; 26]),
                }
                keys.own.push(words);
            }
        }
        keys
    }

    /// Whether a value under this name is a secret.
    #[inline]
    pub(crate) fn secrecy(&self, name: &[u8]) -> Option<Secrecy> {
        if self.endings.may_have(name) { self.judge(name) } else { None }
    }

    fn judge(&self, name: &[u8]) -> Option<Secrecy> {
        let tail = Tail::of(name);
        let is_own = |words: &Vec<Vec<u8>>| words.iter().enumerate().all(|(at, word)| tail.word(at) == word.as_slice());
        if self.own.iter().any(is_own) {
            return Some(Secrecy::Certain);
        }
        let before = tail.word(1);
        match tail.word(0) {
            b"password" | b"passwd" | b"pwd" | b"pw" | b"passphrase" | b"passcode" | b"userpassword" | b"dbpassword" | b"cvv"
            | b"cvc" | b"ssn" => Some(Secrecy::Certain),
            b"pass" => PASS_OF.contains(&before).then_some(Secrecy::Certain),
            b"authorization" | b"authorisation" | b"cookie" | b"cookies" | b"setcookie" => Some(Secrecy::Header),
            b"token" => (!NO_SECRET_TOKENS.contains(&before)).then_some(Secrecy::Likely),
            b"secret"
            | b"secrets"
            | b"apikey"
            | b"credential"
            | b"credentials"
            | b"privatekey"
            | b"secretkey"
            | b"accesskey"
            | b"accesstoken"
            | b"authtoken"
            | b"refreshtoken"
            | b"csrftoken"
            | b"xsrftoken"
            | b"csrfmiddlewaretoken"
            | b"clientsecret"
            | b"sessionid"
            | b"jsessionid"
            | b"phpsessid"
            | b"sessid"
            | b"jwt" => Some(Secrecy::Likely),
            b"key" => KEYS_OF.contains(&before).then_some(Secrecy::Likely),
            b"hash" => (before == b"password").then_some(Secrecy::Certain),
            b"string" => (before == b"connection").then_some(Secrecy::Likely),
            b"number" => (before == b"card").then_some(Secrecy::Certain),
            b"code" => (before == b"security").then_some(Secrecy::Certain),
            b"base" => (before == b"key" && tail.word(2) == b"secret").then_some(Secrecy::Likely),
            _ => None,
        }
    }
}

const PASS_OF: [&[u8]; 20] = [
    b"db",
    b"user",
    b"smtp",
    b"mysql",
    b"redis",
    b"ftp",
    b"sftp",
    b"proxy",
    b"ldap",
    b"admin",
    b"root",
    b"email",
    b"auth",
    b"login",
    b"pg",
    b"postgres",
    b"rabbitmq",
    b"mail",
    b"imap",
    b"basic",
];

const KEYS_OF: [&[u8]; 15] = [
    b"api",
    b"access",
    b"secret",
    b"private",
    b"signing",
    b"encryption",
    b"auth",
    b"account",
    b"master",
    b"shared",
    b"service",
    b"ssh",
    b"deploy",
    b"storage",
    b"admin",
];

/// Tokens that say where a list goes on.
const NO_SECRET_TOKENS: [&[u8]; 8] =
    [b"page", b"next", b"continuation", b"sync", b"cancellation", b"pagination", b"unexpected", b"invalid"];

/// Whether a name says that its value numbers or measures something: digits there are no card.
pub(crate) fn is_of_number(name: &[u8]) -> bool {
    let tail = Tail::of(name);
    let last = tail.word(0);
    let has_card = (0..tail.count).any(|at| matches!(tail.word(at), b"card" | b"cc" | b"pan"));
    !has_card && NUMBERS.contains(&last)
}

const NUMBERS: [&[u8]; 47] = [
    b"id",
    b"ids",
    b"uid",
    b"uuid",
    b"guid",
    b"hash",
    b"sha",
    b"md",
    b"digest",
    b"checksum",
    b"timestamp",
    b"ts",
    b"nonce",
    b"seq",
    b"sequence",
    b"offset",
    b"order",
    b"invoice",
    b"tracking",
    b"span",
    b"trace",
    b"traceid",
    b"spanid",
    b"requestid",
    b"orderid",
    b"userid",
    b"build",
    b"commit",
    b"revision",
    b"epoch",
    b"nanos",
    b"nano",
    b"ns",
    b"ms",
    b"us",
    b"millis",
    b"micros",
    b"lsn",
    b"txn",
    b"txid",
    b"xid",
    b"cursor",
    b"etag",
    b"bytes",
    b"size",
    b"time",
    b"duration",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_name_decide() {
        let keys = Keys::new(&["customer.iban".to_owned(), "PIN".to_owned()]);
        for (name, expect) in [
            ("password", Some(Secrecy::Certain)),
            ("DB_PASSWORD", Some(Secrecy::Certain)),
            ("userPassword2", Some(Secrecy::Certain)),
            ("DBPassword", Some(Secrecy::Certain)),
            ("smtp_pass", Some(Secrecy::Certain)),
            ("tests.pass", None),
            ("http.request.header.authorization", Some(Secrecy::Header)),
            ("Set-Cookie", Some(Secrecy::Header)),
            ("x-internal-token", Some(Secrecy::Likely)),
            ("accessToken", Some(Secrecy::Likely)),
            ("APIKey", Some(Secrecy::Likely)),
            ("AWS_SECRET_ACCESS_KEY", Some(Secrecy::Likely)),
            ("aws_access_key_id", None),
            ("gen_ai.usage.input_tokens", None),
            ("token_count", None),
            ("next_page_token", None),
            ("monkey", None),
            ("author", None),
            ("primary_key", None),
            ("customer.iban", Some(Secrecy::Certain)),
            ("iban", None),
            ("card_pin", Some(Secrecy::Certain)),
            ("spin", None),
            ("", None),
        ] {
            assert_eq!(keys.secrecy(name.as_bytes()), expect, "{name}");
        }
    }

    #[test]
    fn names_of_numbers() {
        for (name, expect) in
            [("orderId", true), ("timeUnixNano", true), ("span_id", true), ("card_id", false), ("amount", false), ("paid", false)]
        {
            assert_eq!(is_of_number(name.as_bytes()), expect, "{name}");
        }
    }
}
