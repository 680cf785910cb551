//! The parts of a date, each recognised by one step: which lengths it may have at a place.
//!
//! The order of the lengths is the order in which the expression of the part would try them.

/// A part of a date that is recognised by one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Four digits, from one year to another; whole decades.
    Year(u16, u16),
    /// Any two digits.
    Two,
    /// 1 to 12, leading zero optional.
    Month,
    /// 01 to 12.
    Month2,
    /// 1 to 31, leading zero or blank optional.
    Day,
    /// 01 to 31.
    Day2,
    /// 0 to 23, leading zero optional.
    Hour,
    /// 00 to 23.
    Hour2,
    /// 0 to 29, leading zero optional.
    HourLoose,
    /// 1 to 12, leading zero optional.
    Hour12,
    /// 0 to 59, leading zero optional: minutes.
    Minute,
    /// 00 to 59.
    Minute2,
    /// 0 to 61, leading zero optional.
    Second,
    /// 00 to 61.
    Second2,
    /// One to six digits.
    Fraction,
    /// A short English month name in any case.
    MonthName,
    /// A short English day name in any case.
    DayName,
    /// `am` or `pm` in any case.
    Half,
    /// `Z`, `UTC`, `GMT`, `±hh`, `±hhmm`, `±hh:mm`; letters in any case if set.
    Offset(bool),
    /// `Z` or three to five capitals; letters in any case if set.
    ZoneName(bool),
}

/// What may stand at a place: ASCII characters, the end, anything else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Next {
    pub(super) ascii: u128,
    pub(super) end: bool,
    pub(super) high: bool,
}

impl Next {
    /// Whether an ASCII character is among them.
    pub(super) fn has(&self, byte: u8) -> bool {
        byte < 0x80 && self.ascii >> byte & 1 == 1
    }

    pub(super) const ANY: Next = Next { ascii: u128::MAX, end: true, high: true };

    pub(super) fn or(self, other: Next) -> Next {
        Next { ascii: self.ascii | other.ascii, end: self.end | other.end, high: self.high | other.high }
    }

    pub(super) fn allows(&self, byte: Option<u8>) -> bool {
        match byte {
            None => self.end,
            Some(b) if b < 0x80 => self.ascii >> b & 1 == 1,
            Some(_) => self.high,
        }
    }
}

const fn set(of: &[u8]) -> u128 {
    let (mut bits, mut i) = (0, 0);
    while i < of.len() {
        bits |= 1 << of[i];
        i += 1;
    }
    bits
}

const DIGITS: u128 = set(b"0123456789");
const LETTERS: u128 = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
const CAPITALS: u128 = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ");
pub(super) const WORD: u128 = DIGITS | LETTERS | set(b"_");

pub(super) fn is_word(b: u8) -> bool {
    b < 0x80 && WORD >> b & 1 == 1
}

impl Part {
    /// What it can begin with.
    pub(super) fn first(self) -> Next {
        let ascii = match self {
            Part::Year(..) | Part::Two | Part::Fraction => DIGITS,
            Part::Month | Part::Hour | Part::Hour12 | Part::Minute | Part::Second | Part::HourLoose => DIGITS,
            Part::Month2 => set(b"01"),
            Part::Day => DIGITS | set(b" "),
            Part::Day2 => set(b"0123"),
            Part::Hour2 => set(b"012"),
            Part::Minute2 => set(b"012345"),
            Part::Second2 => set(b"0123456"),
            Part::MonthName => set(b"jfmasondJFMASOND"),
            Part::DayName => set(b"mtwfsMTWFS"),
            Part::Half => set(b"apAP"),
            Part::Offset(false) => set(b"ZUG+-"),
            Part::Offset(true) => set(b"ZUGzug+-"),
            Part::ZoneName(false) => CAPITALS,
            Part::ZoneName(true) => LETTERS,
        };
        // Digits of other scripts, and other letters that ignore-case lets pass for s, k and i.
        let high = matches!(
            self,
            Part::Two
                | Part::Hour
                | Part::HourLoose
                | Part::Minute
                | Part::Second
                | Part::MonthName
                | Part::DayName
                | Part::ZoneName(true)
        );
        Next { ascii, end: false, high }
    }

    /// The most bytes it takes.
    pub(super) fn longest(self) -> usize {
        match self {
            Part::Year(..) => 4,
            Part::Fraction | Part::Offset(_) => 6,
            Part::MonthName | Part::DayName => 3,
            Part::ZoneName(_) => 5,
            _ => 2,
        }
    }

    /// Whether it is an hour.
    pub(super) fn is_hour(self) -> bool {
        matches!(self, Part::Hour | Part::Hour2 | Part::HourLoose | Part::Hour12)
    }

    /// The lengths it may have here, in the order they are tried; `None` if that is not
    /// clear from ASCII alone.
    #[inline]
    pub(super) fn lengths(self, text: &[u8], at: usize) -> Option<Lengths> {
        let byte = |n: usize| text.get(at + n).copied().unwrap_or(0);
        let (a, b) = (byte(0), byte(1));
        let digit = |c: u8| c.is_ascii_digit();
        if a >= 0x80 || b >= 0x80 && self != Part::Half {
            return None;
        }
        let one_or = |two: bool, one: bool| match (two, one) {
            (true, true) => Lengths::of(&[2, 1]),
            (true, false) => Lengths::of(&[2]),
            (false, true) => Lengths::of(&[1]),
            (false, false) => Lengths::of(&[]),
        };
        Some(match self {
            Part::Year(from, to) => {
                let (c, d) = (byte(2), byte(3));
                if c >= 0x80 || d >= 0x80 {
                    return None;
                }
                if !(digit(a) && digit(b) && digit(c) && digit(d)) {
                    return Some(Lengths::of(&[]));
                }
                let year = u16::from(a - b'0') * 1000
                    + u16::from(b - b'0') * 100
                    + u16::from(c - b'0') * 10
                    + u16::from(d - b'0');
                if (from..=to).contains(&year) { Lengths::of(&[4]) } else { Lengths::of(&[]) }
            }
            Part::Two => one_or(digit(a) && digit(b), false),
            Part::Month => match a {
                b'0' => one_or(matches!(b, b'1'..=b'9'), false),
                b'1' if matches!(b, b'0'..=b'2') => Lengths::of(&[1, 2]),
                _ => one_or(false, matches!(a, b'1'..=b'9')),
            },
            Part::Month2 => {
                one_or(a == b'0' && matches!(b, b'1'..=b'9') || a == b'1' && matches!(b, b'0'..=b'2'), false)
            }
            Part::Day => match a {
                b' ' | b'0' => one_or(matches!(b, b'1'..=b'9'), false),
                b'1' | b'2' => one_or(digit(b), true),
                b'3' if matches!(b, b'0' | b'1') => Lengths::of(&[1, 2]),
                _ => one_or(false, matches!(a, b'1'..=b'9')),
            },
            Part::Day2 => match a {
                b'0' => one_or(matches!(b, b'1'..=b'9'), false),
                b'1' | b'2' => one_or(digit(b), false),
                _ => one_or(a == b'3' && matches!(b, b'0' | b'1'), false),
            },
            Part::Hour => match a {
                b'0' | b'1' => one_or(digit(b), true),
                b'2' if matches!(b, b'0'..=b'3') => Lengths::of(&[1, 2]),
                _ => one_or(false, digit(a)),
            },
            Part::Hour2 => one_or(matches!(a, b'0' | b'1') && digit(b) || a == b'2' && matches!(b, b'0'..=b'3'), false),
            Part::HourLoose => one_or(matches!(a, b'0'..=b'2') && digit(b), digit(a)),
            Part::Hour12 => match a {
                b'0' => one_or(matches!(b, b'1'..=b'9'), false),
                b'1' => one_or(matches!(b, b'0'..=b'2'), true),
                _ => one_or(false, matches!(a, b'2'..=b'9')),
            },
            Part::Minute => one_or(matches!(a, b'0'..=b'5') && digit(b), digit(a)),
            Part::Minute2 => one_or(matches!(a, b'0'..=b'5') && digit(b), false),
            Part::Second => match a {
                b'6' if matches!(b, b'0' | b'1') => Lengths::of(&[1, 2]),
                _ => one_or(matches!(a, b'0'..=b'5') && digit(b), digit(a)),
            },
            Part::Second2 => {
                one_or(matches!(a, b'0'..=b'5') && digit(b) || a == b'6' && matches!(b, b'0' | b'1'), false)
            }
            Part::Fraction => {
                let count = (0..6).take_while(|&n| digit(byte(n))).count();
                Lengths { list: [count as u8, 0, 0, 0, 0, 0], count: 0 }.down_from(count)
            }
            Part::MonthName => named(a, b, byte(2), &MONTHS)?,
            Part::DayName => named(a, b, byte(2), &DAYS)?,
            Part::Half => {
                if b >= 0x80 {
                    return None;
                }
                one_or(matches!(a, b'a' | b'A' | b'p' | b'P') && matches!(b, b'm' | b'M'), false)
            }
            Part::Offset(any_case) => return offset(text, at, any_case),
            Part::ZoneName(any_case) => {
                let fits = |c: u8| if any_case { c.is_ascii_alphabetic() } else { c.is_ascii_uppercase() };
                let count = (0..5).take_while(|&n| fits(byte(n))).count();
                // A letter of another script may continue it when case is ignored.
                if count < 5 && byte(count) >= 0x80 {
                    return None;
                }
                let z = a == b'Z' || any_case && a == b'z';
                let mut lengths = Lengths::of(if z { &[1] } else { &[] });
                for n in (3..=count).rev() {
                    lengths.push(n);
                }
                lengths
            }
        })
    }
}

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const DAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

fn named(a: u8, b: u8, c: u8, names: &[&[u8; 3]]) -> Option<Lengths> {
    if c >= 0x80 {
        return None;
    }
    let text = [a | 0x20, b | 0x20, c | 0x20];
    let letters = a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_alphabetic();
    Some(if letters && names.iter().any(|name| **name == text) { Lengths::of(&[3]) } else { Lengths::of(&[]) })
}

fn offset(text: &[u8], at: usize, any_case: bool) -> Option<Lengths> {
    let byte = |n: usize| text.get(at + n).copied().unwrap_or(0);
    let a = byte(0);
    if matches!(a, b'+' | b'-') {
        let mut digits = [0u8; 5];
        for (n, to) in digits.iter_mut().enumerate() {
            *to = byte(n + 1);
            if *to >= 0x80 {
                return None;
            }
        }
        let digit = |n: usize| digits[n].is_ascii_digit();
        let mut lengths = Lengths::of(&[]);
        if matches!(digits[0], b'0' | b'1') && digit(1) {
            if digits[2] == b':' && digit(3) && digit(4) {
                lengths.push(6);
            } else if digit(2) && digit(3) {
                lengths.push(5);
            }
            lengths.push(3);
        }
        return Some(lengths);
    }
    let fold = |c: u8| if any_case { c.to_ascii_uppercase() } else { c };
    let three = [fold(a), fold(byte(1)), fold(byte(2))];
    Some(match &three {
        [b'Z', ..] => Lengths::of(&[1]),
        b"UTC" | b"GMT" => Lengths::of(&[3]),
        // No letter of these folds from another script.
        _ => Lengths::of(&[]),
    })
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) list: [u8; 6],
    pub(super) count: u8,
}

impl Lengths {
    #[inline]
    fn of(list: &[u8]) -> Lengths {
        let mut lengths = Lengths { list: [0; 6], count: list.len() as u8 };
        lengths.list[..list.len()].copy_from_slice(list);
        lengths
    }

    fn push(&mut self, length: usize) {
        self.list[self.count as usize] = length as u8;
        self.count += 1;
    }

    fn down_from(mut self, length: usize) -> Lengths {
        self.count = 0;
        for n in (1..=length).rev() {
            self.push(n);
        }
        self
    }
}
