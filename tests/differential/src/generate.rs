//! Headers from a seed: by the grammar, by the grammar of neighbours, and with things gone wrong.

use std::fmt::Write as _;

use crate::case::Kind;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or_default()
    }

    fn between(&mut self, first: usize, last: usize) -> usize {
        first.saturating_add(self.below(last.saturating_sub(first).saturating_add(1)))
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.below(of.len());
        of.get(at).copied().unwrap_or_default()
    }

    fn text(&mut self, alphabet: &str, first: usize, last: usize) -> String {
        let length = self.between(first, last);
        (0..length).filter_map(|_| alphabet.chars().nth(self.below(alphabet.len()))).collect()
    }

    fn hex(&mut self, digits: usize) -> String {
        self.text("0123456789abcdef", digits, digits)
    }

    fn space(&mut self) -> &'static str {
        if self.once_in(4) { self.pick(&[" ", "\t", "  ", " \t"]) } else { "" }
    }
}

/// What should not be there: of every grammar and of none.
const STRAY: &[&str] = &[
    "\"", "\\", " ", "\t", "\n", "\r\n", "\0", "\u{7f}", "ä", "€", "😀", "\u{a0}", "=", "==", ",", ",,", ";", ";;",
    "%", "%zz", "%4", "+", "-", "--", "(", ")", ":", "@", "/", "A", "F", "g", "Z", "0", "_", "*", "{", "[", "<", "?",
    "%00", "%ff", "%C3%A4",
];

/// Headers without end.
pub(crate) fn headers(seed: u64) -> impl Iterator<Item = (Kind, Vec<String>)> {
    let mut random = Random(seed);
    std::iter::from_fn(move || {
        let random = &mut random;
        let kind = match random.below(10) {
            0..3 => Kind::Traceparent,
            3..6 => Kind::Tracestate,
            _ => Kind::Baggage,
        };
        let value = |random: &mut Random| {
            let mut value = match kind {
                Kind::Traceparent => traceparent(random),
                Kind::Tracestate => tracestate(random),
                Kind::Baggage => baggage(random),
            };
            if random.once_in(3) {
                for _ in 0..random.between(1, 2) {
                    spoil(random, &mut value);
                }
            }
            value
        };
        let mut values = vec![value(random)];
        if random.once_in(25) {
            values.push(value(random));
        }
        Some((kind, values))
    })
}

/// One stray thing in, one character out, or one changed.
fn spoil(random: &mut Random, value: &mut String) {
    let places: Vec<_> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    let at = places.get(random.below(places.len())).copied().unwrap_or_default();
    let what = random.below(4);
    if what > 0 && at < value.len() {
        value.remove(at);
    }
    if what != 1 {
        value.insert_str(at, random.pick(STRAY));
    }
}

fn traceparent(random: &mut Random) -> String {
    let (mut trace, mut span) = (random.hex(32), random.hex(16));
    let version =
        if random.once_in(4) { random.pick(&["01", "cc", "fe", "ff", "0", "000", "AA", "0g", ""]) } else { "00" };
    if random.once_in(30) {
        trace = "0".repeat(32);
    }
    if random.once_in(30) {
        span = "0".repeat(16);
    }
    let flags = if random.once_in(3) { random.hex(2) } else { random.pick(&["00", "01", "02", "03"]).to_owned() };
    let extra =
        if random.once_in(6) { random.pick(&["-", "-x", "-what-the-future-holds", ".x", "-a,b", "0"]) } else { "" };
    let (before, after) = (random.space(), random.space());
    let mut text = format!("{before}{version}-{trace}-{span}-{flags}{extra}{after}");
    if random.once_in(40) {
        text = text.to_uppercase();
    }
    if random.once_in(60) {
        text = format!("{text},{text}");
    }
    text
}

fn tracestate(random: &mut Random) -> String {
    let members = match random.below(40) {
        0 => random.between(30, 35),
        1 => 0,
        _ => random.between(1, 5),
    };
    let mut text = String::new();
    for number in 0..members {
        if number > 0 {
            text.push(',');
        }
        let key = match random.below(12) {
            0 => random.text("abcdefghijklmnopqrstuvwxyz0123456789_-*/@", 1, 8),
            1 => format!("{}@{}", random.text("abc012", 1, 4), random.text("abc012", 1, 16)),
            2 => random.pick(&["dup", "congo", "9lives", "0", "a@b@c", "Upper", "x@", "@x", "_x"]).to_owned(),
            3 if random.once_in(8) => random.text("ab0", 238, 260),
            _ => format!("{}{number}", random.text("abcxyz", 1, 4)),
        };
        let value = match random.below(16) {
            0 => random.text(" !\"#$%&'()*+-./:;<>?@[\\]^_`{|}~aZ0", 0, 12),
            1 if random.once_in(6) => random.text("v", 250, 260),
            _ => random.text("abcXYZ0123456789:_-", 1, 24),
        };
        let (before, after) = (random.space(), random.space());
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{key}={value}{after}");
        if random.once_in(60) {
            text.push_str(random.pick(&[",", " ,", ",\t,"]));
        }
    }
    text
}

fn baggage(random: &mut Random) -> String {
    let members = match random.below(100) {
        0 => random.between(60, 70),
        1 if random.once_in(3) => random.between(175, 190),
        2 => 0,
        _ => random.between(1, 4),
    };
    let long = random.once_in(400);
    let mut text = String::new();
    for number in 0..members {
        if number > 0 {
            text.push(',');
        }
        let name = match random.below(14) {
            0 => random.text("!#$%&'*+-.^_`|~aZ09", 1, 6),
            1 => random.pick(&["dup", "user", "a%20b", "a+b", "na me", "", "k%C3%A4"]).to_owned(),
            _ => format!("{}{number}", random.text("abcXYZ._-", 1, 5)),
        };
        let value = match random.below(12) {
            0 => random.text("!#$%&'()*+-./:<=>?@[]^_`{|}~aZ09", 0, 10),
            1 => random
                .pick(&[
                    "a=b=c",
                    "",
                    "a+b",
                    "%20x%20",
                    "%ff",
                    "%C3%A4",
                    "%F0%9F%98%80",
                    "100%",
                    "%",
                    "a%2Cb%3Bc",
                    "%e2%82",
                ])
                .to_owned(),
            2 if long => random.text("v", 3000, 5000),
            _ => random.text("abcXYZ0123456789._~-", 1, 20),
        };
        let properties = match random.below(10) {
            0 => random.pick(&[
                ";p",
                ";p=1",
                ";p=1;q",
                "; p = 1 ; q",
                ";p=%20",
                ";",
                ";;p",
                ";p=a b",
                ";p=1=2",
                "; p",
                ";p+q=1+2",
            ]),
            _ => "",
        };
        let mut space = || random.space();
        let (before, left, right, after) = match number % 3 {
            0 => (space(), "", "", space()),
            1 => ("", space(), space(), ""),
            _ => ("", "", "", ""),
        };
        let _ = write!(text, "{before}{name}{left}={right}{value}{properties}{after}");
        if random.once_in(60) {
            text.push_str(random.pick(&[",", " ,", ",novalue"]));
        }
    }
    text
}
