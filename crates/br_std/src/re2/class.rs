//! Sets of characters: brackets, and what a backslash and a letter stand for.

use super::parse::{Fault, Parser, Purpose};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// Ranges of characters that all sets of one expression may have together.
const RANGES_MAX: usize = 1 << 16;
/// Characters that are looked at one by one because case does not matter.
const FOLDED_MAX: usize = 4 << 20;

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

const POSIX: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7f')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1f'), ('\x7f', '\x7f')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
];

/// Unicode's scripts by their long names, which are the only ones that Go knows.
const SCRIPTS: &str = "\
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo \
    Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common \
    Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs \
    Elbasan Elymaic Ethiopic Garay Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Gurung_Khema \
    Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi \
    Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki \
    Khudawadi Kirat_Rai Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic \
    Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao \
    Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu \
    Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian \
    Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa \
    Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian \
    Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil \
    Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi Wancho \
    Warang_Citi Yezidi Yi Zanabazar_Square";

/// The set for one of the letters `d`, `s` and `w`, in upper case for all other characters.
pub(super) fn perl(letter: char) -> Option<(&'static [(char, char)], bool)> {
    let set = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    Some((set, letter.is_ascii_uppercase()))
}

impl Parser<'_> {
    /// Stands in for a set that is left out.
    fn placeholder(&mut self) -> ClassUnicode {
        self.is_whole = false;
        ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')])
    }

    /// A set from ranges, with its other cases where these count.
    pub(super) fn set(&mut self, ranges: &[(char, char)], is_negated: bool) -> Result<ClassUnicode, Fault> {
        let ranges = ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)).collect();
        self.folded(ranges, is_negated)
    }

    fn folded(&mut self, ranges: Vec<ClassUnicodeRange>, is_negated: bool) -> Result<ClassUnicode, Fault> {
        self.count_ranges(ranges.len())?;
        let mut set = ClassUnicode::new(ranges);
        if self.flags.fold {
            if self.purpose == Purpose::Check {
                return Ok(self.placeholder());
            }
            let width = |range: &ClassUnicodeRange| range.end() as usize - range.start() as usize + 1;
            self.folded += set.ranges().iter().map(width).sum::<usize>();
            if self.folded > FOLDED_MAX {
                return Err(self.too_large());
            }
            set.case_fold_simple();
        }
        if is_negated {
            set.negate();
        }
        self.count_ranges(set.ranges().len())?;
        Ok(set)
    }

    fn count_ranges(&mut self, count: usize) -> Result<(), Fault> {
        self.ranges += count;
        if self.ranges > RANGES_MAX { Err(self.too_large()) } else { Ok(()) }
    }

    /// `\pN` or `\p{Greek}`, at its backslash; `None` for something else.
    pub(super) fn unicode_class(&mut self) -> Result<Option<ClassUnicode>, Fault> {
        let rest = self.rest();
        let mut is_negated = rest.starts_with("\\P");
        if !is_negated && !rest.starts_with("\\p") {
            return Ok(None);
        }
        let Some(first) = rest[2..].chars().next() else { return Ok(None) };
        let (length, mut name) = if first == '{' {
            let Some(end) = rest.find('}') else { return Err(Fault::new("invalid character class range", rest)) };
            (end + 1, &rest[3..end])
        } else {
            (2 + first.len_utf8(), &rest[2..2 + first.len_utf8()])
        };
        if let Some(inner) = name.strip_prefix('^') {
            (name, is_negated) = (inner, !is_negated);
        }
        let is_known = CATEGORIES.contains(&name) || SCRIPTS.split(' ').any(|script| script == name);
        if !is_known {
            return Err(Fault::new("invalid character class range", &rest[..length]));
        }
        self.at += length;
        if self.purpose == Purpose::Check {
            self.count_ranges(1)?;
            return Ok(Some(self.placeholder()));
        }
        let ranges = table(name);
        self.folded(ranges, is_negated).map(Some)
    }

    /// A set in brackets, at its opening one.
    pub(super) fn brackets(&mut self) -> Result<ClassUnicode, Fault> {
        let start = self.at;
        self.at += 1;
        let is_negated = self.take("^");
        let mut set = ClassUnicode::empty();
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut is_first = true;
        while is_first || !self.rest().starts_with(']') {
            is_first = false;
            let named = match self.posix_class()? {
                Some(named) => Some(named),
                None => self.unicode_class()?,
            };
            if let Some(named) = named {
                set.union(&named);
                continue;
            }
            if let Some((ranges, is_negated)) = self.rest().strip_prefix('\\').and_then(|rest| perl(rest.chars().next()?)) {
                self.at += 2;
                set.union(&self.set(ranges, is_negated)?);
                continue;
            }
            let from = self.at;
            let first = self.class_char(start)?;
            let mut last = first;
            let rest = self.rest();
            if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                last = self.class_char(start)?;
                if last < first {
                    return Err(Fault::new("invalid character class range", &self.text[from..self.at]));
                }
            }
            // Numbers that are no characters are in no text.
            let last = if (0xd800..0xe000).contains(&last) { 0xd7ff } else { last };
            let first = if (0xd800..0xe000).contains(&first) { 0xe000 } else { first };
            if let (Some(first), Some(last), true) = (char::from_u32(first), char::from_u32(last), first <= last) {
                ranges.push((first, last));
            }
        }
        self.at += 1;
        set.union(&self.set(&ranges, false)?);
        if is_negated {
            set.negate();
        }
        self.count_ranges(set.ranges().len())?;
        Ok(set)
    }

    /// One character in brackets. A bracket that is not closed is shown from its start.
    fn class_char(&mut self, start: usize) -> Result<u32, Fault> {
        match self.peek() {
            None => Err(Fault::new("missing closing ]", &self.text[start..])),
            Some('\\') => self.escape(),
            Some(character) => {
                self.at += character.len_utf8();
                Ok(u32::from(character))
            }
        }
    }

    /// `[:alpha:]` or `[:^alpha:]` within brackets; `None` for something else.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>, Fault> {
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix("[:").filter(|_| !self.has_no_named_class) else { return Ok(None) };
        let Some(end) = inner.find(":]") else {
            self.has_no_named_class = true;
            return Ok(None);
        };
        let (name, is_negated) = match inner[..end].strip_prefix('^') {
            Some(name) => (name, true),
            None => (&inner[..end], false),
        };
        let Some((_, ranges)) = POSIX.iter().find(|(known, _)| *known == name) else {
            return Err(Fault::new("invalid character class range", &rest[..end + 4]));
        };
        self.at += end + 4;
        self.set(ranges, is_negated).map(Some)
    }
}

/// The characters of a category or script that is known.
fn table(name: &str) -> Vec<ClassUnicodeRange> {
    let query = match name {
        "Any" => r"\p{Any}".to_owned(),
        // Characters that are not assigned belong to no category in Go.
        "C" => r"[\p{Cc}\p{Cf}\p{Co}]".to_owned(),
        // Halves of pairs are in no text.
        "Cs" => return Vec::new(),
        _ if CATEGORIES.contains(&name) => format!(r"\p{{gc={name}}}"),
        _ => format!(r"\p{{sc={name}}}"),
    };
    let Ok(hir) = regex_syntax::parse(&query) else { return Vec::new() };
    match hir.kind() {
        HirKind::Class(Class::Unicode(set)) => set.ranges().to_vec(),
        _ => Vec::new(),
    }
}
