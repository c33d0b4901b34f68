use super::*;

/// Texts that a pattern is asked about, each of which some dialect answers differently.
const TEXTS: &[&str] = &[
    "", "a", "b", "ab", "&", "~", "-", "[", "]", "é", "ſ", "s", "k", "K", "\u{212a}", "ǅ", "Ω", "٣", "3", "\u{a0}", " ", "\t",
    "\u{b}", "\n", "a\nb", "a.b", "axb", "x{,2}", "xx", "xxx", "_", "z", "\\", "d", "{", "a{,2}", "a{x}",
];

/// Which of the texts a pattern matches whole.
fn matched(pattern: &str) -> Vec<&'static str> {
    let regex = Regex::new(pattern, Mode::Whole).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let empty = check(pattern, Mode::Whole).expect("it was compiled");
    assert_eq!(empty, regex.is_match(""), "{pattern}");
    let found: Vec<&str> = TEXTS.iter().copied().filter(|text| regex.is_match(text)).collect();
    if let Some(globs) = globs(pattern) {
        let by_globs: Vec<&str> = TEXTS.iter().copied().filter(|text| globs.iter().any(|glob| glob.matches(text))).collect();
        assert_eq!(by_globs, found, "{pattern}");
    }
    found
}

#[test]
fn what_go_matches() {
    let check = |pattern: &str, expect: &[&str]| assert_eq!(matched(pattern), expect, "{pattern}");
    check("[a&&b]", &["a", "b", "&"]);
    check("[&&a]", &["a", "&"]);
    check("[~~]", &["~"]);
    check("[a~~b]", &["a", "b", "~"]);
    check("[]a]", &["a", "]"]);
    check("[^]a]", &matched("[^a\\]]"));
    check("[a-]", &["a", "-"]);
    check("[--/]", &["-"]);
    check("[[]", &["["]);
    check("[[a]", &["a", "["]);
    check("[\\d-z]", &["-", "3", "z"]);
    check("[[:alpha:]_]", &["a", "b", "s", "k", "K", "_", "z", "d"]);
    check("[[:^ascii:]]", &["é", "ſ", "\u{212a}", "ǅ", "Ω", "٣", "\u{a0}"]);
    check("\\w", &["a", "b", "s", "k", "K", "3", "_", "z", "d"]);
    check("(?i)\\w", &["a", "b", "ſ", "s", "k", "K", "\u{212a}", "3", "_", "z", "d"]);
    check("\\d", &["3"]);
    check("\\s", &[" ", "\t", "\n"]);
    check("[[:space:]]", &[" ", "\t", "\u{b}", "\n"]);
    check("\\pN", &["٣", "3"]);
    check("\\p{Greek}|\\p{Lt}", &["ǅ", "Ω"]);
    check("\\p{^L}{2}", &[]);
    check("\\P{^Nd}", &["٣", "3"]);
    check("(?i)k", &["k", "K", "\u{212a}"]);
    check("(?i)[^k]", &matched("[^kK\u{212a}]"));
    check("(?i:S)|K", &["ſ", "s", "K"]);
    check("\\<a\\>", &[]);
    check("\\Qa.b\\E", &["a.b"]);
    check("\\Qa.b", &["a.b"]);
    check("a\\Q.\\Eb", &["a.b"]);
    check("x{,2}", &["x{,2}"]);
    check("a{x}", &["a{x}"]);
    check("x{2}", &["xx"]);
    check("x{2,}", &["xx", "xxx"]);
    check("{", &["{"]);
    check("\\141|\\x62|\\x{5f}", &["a", "b", "_"]);
    check("\\_|\\-|\\~|\\&", &["&", "~", "-", "_"]);
    check("a.b", &["a\nb", "a.b", "axb"]);
    check("a(?-s:.)b", &["a.b", "axb"]);
    check("(?-s)a.b", &["a.b", "axb"]);
    check("(?s-s:a)|b", &["a", "b"]);
    check("a\\z|\\Ab", &["a", "b"]);
    check("(?m)a$\n^b", &["a\nb"]);
    check("a$\n^b", &[]);
    check("\\bab\\b", &["ab"]);
    check("\\Bé\\B", &["é"]);
    check("^*a", &["a"]);
    check("a(?i)*", &["", "a"]);
    check("a*(?i)*", &["", "a"]);
    check("(?U)x+", &["xx", "xxx"]);
    check("|a", &["", "a"]);
    check("()", &[""]);
    check("(?P<1>a)(?<1>b)", &["ab"]);
    check(".*", TEXTS);
    check(".+", &TEXTS[1..]);
    check("a.*", &["a", "ab", "a\nb", "a.b", "axb", "a{,2}", "a{x}"]);
    check(".*b", &["b", "ab", "a\nb", "a.b", "axb"]);
    check(".+.+.+", &["a\nb", "a.b", "axb", "x{,2}", "xxx", "a{,2}", "a{x}"]);
    check(".*,.*", &["x{,2}", "a{,2}"]);
    check("(a|x)?(b|.+\\})", &matched("b|ab|xb|.+[}]|a.+[}]|x.+[}]"));
    check("\\x{D800}|[\\x{D800}-\\x{DFFF}]", &[]);
}

/// [`matched`] asks both ways.
#[test]
fn words_and_gaps_say_what_an_automaton_says() {
    const PARTS: [&str; 16] =
        [".*", ".+", "a", "b", "xx", "é", "\\.", "[ab]", "(a|b)", "(|a)", "a?", "(x.*|b)", "(.+)", "|", "\n", "{,2}"];
    let mut seed = 1_u64;
    let mut with_globs = 0;
    for _ in 0..3000 {
        let mut next = |count: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % count
        };
        let pattern: String = (0..=next(5)).map(|_| PARTS[next(16) as usize]).collect();
        matched(&pattern);
        with_globs += usize::from(globs(&pattern).is_some());
    }
    assert!(with_globs > 2000, "{with_globs}");
}

#[test]
fn what_go_refuses() {
    let check = |pattern: &str, expect: &str| {
        let error = check(pattern, Mode::Whole).expect_err(pattern);
        assert_eq!(error.message(), format!("error parsing regexp: {expect}"));
        assert!(Regex::new(pattern, Mode::Part).is_err(), "{pattern}");
    };
    check("(", "missing closing ): `(`");
    check("a)|(b", "unexpected ): `a)|(b`");
    check("[a", "missing closing ]: `[a`");
    check("x[]", "missing closing ]: `[]`");
    check("a++", "invalid nested repetition operator: `++`");
    check("a*?{2}", "invalid nested repetition operator: `*?{2}`");
    check("*", "missing argument to repetition operator: `*`");
    check("(|*)", "missing argument to repetition operator: `*`");
    check("a{1001}", "invalid repeat count: `{1001}`");
    check("a{2,1}", "invalid repeat count: `{2,1}`");
    check("a{99999999999}", "invalid repeat count: `{99999999999}`");
    check("(?:(?:a{100}){10}){2}", "invalid repeat count: `{2}`");
    check("(?x)a b", "invalid or unsupported Perl syntax: `(?x`");
    check("(?R)a", "invalid or unsupported Perl syntax: `(?R`");
    check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
    check("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`");
    check("(?P<a", "invalid named capture: `(?P<a`");
    check("(?P<a b>c)", "invalid named capture: `(?P<a b>`");
    check("\\u0061", "invalid escape sequence: `\\u`");
    check("\\1", "invalid escape sequence: `\\1`");
    check("\\8", "invalid escape sequence: `\\8`");
    check("\\C", "invalid escape sequence: `\\C`");
    check("\\x{110000}", "invalid escape sequence: `\\x{110000`");
    check("[\\b]", "invalid escape sequence: `\\b`");
    check("[a-\\d]", "invalid escape sequence: `\\d`");
    check("[b-a]", "invalid character class range: `b-a`");
    check("[[:foo:]]", "invalid character class range: `[:foo:]`");
    check("\\p{Alphabetic}", "invalid character class range: `\\p{Alphabetic}`");
    check("\\p{greek}", "invalid character class range: `\\p{greek}`");
    check("a\\", "trailing backslash at end of expression: ``");
    check(&"(".repeat(100_000), &format!("expression nests too deeply: `{}`", "(".repeat(200)));
}

#[test]
fn what_it_costs_is_bounded() {
    let large = Regex::with_size("[01]*1[01]{900}\\pL{50}", Mode::Whole, 64 << 10).expect_err("large");
    assert!(large.message().contains("takes more than 64 KiB when compiled"), "{large}");
    for pattern in ["(?i)[\\x00-\\x{10fffe}]".repeat(20), "\\pL".repeat(1_000), "a?".repeat(60_000)] {
        let error = Regex::new(&pattern, Mode::Part).expect_err("too large");
        assert!(error.message().starts_with("error parsing regexp: expression too large"), "{error}");
    }
    // Each of these would look for its end in all of the rest.
    let open_classes = format!("[{}", "[:".repeat(500_000));
    assert!(check(&open_classes, Mode::Whole).is_err_and(|error| error.message().contains("missing closing ]")));
    check(&"{1".repeat(500_000), Mode::Whole).expect("braces stand for themselves");
    assert!(globs(&".*a".repeat(40)).is_none() && globs(&".*a".repeat(20)).is_some());
    // None of this is made where it is only looked at.
    check(&"(?i)[\\x00-\\x{10fffe}]".repeat(1_000), Mode::Whole).expect("can be read");
}

#[test]
fn texts_within() {
    let check = |pattern: &str, expect: Option<&str>| {
        assert_eq!(required_literal(pattern, Mode::Part).as_deref(), expect, "{pattern}");
    };
    check("a.*(timeout)+[0-9]b?", Some("timeout"));
    check("\\Qa.b\\E|c", None);
    check("(?i)abc", None);
    check("\\Qa.b\\E", Some("a.b"));
    let odd = "a.b[c]\\-é\n~&{2}";
    assert!(Regex::new(&escape(odd), Mode::Whole).expect("valid").is_match(odd));
}

#[test]
fn groups_by_number_and_name() {
    let regex = Regex::new("(?P<n>a)?(?<n>b)?(c)", Mode::Part).expect("valid");
    let names: Vec<_> = regex.group_names().collect();
    assert_eq!(names, [Some("n"), Some("n"), None]);
    let found = regex.captures("xbc").expect("matches");
    assert_eq!(
        (found.range(), found.group("n"), found.group("3"), found.group("0"), found.group("9")),
        (1..3, "b", "c", "bc", "")
    );
    assert_eq!(regex.captures_iter("c ac").map(|found| found.range()).collect::<Vec<_>>(), [0..1, 2..4]);
    assert!(Regex::new("(?i)a+", Mode::WholeLine).expect("valid").captures("aAa\n").is_none());
}
