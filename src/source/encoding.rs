//! Option `logencoding`: which bytes are a newline, and how a line becomes UTF-8.

use encoding_rs::Encoding as Table;

/// The encoding of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `auto`, UTF-8, ASCII: bytes are handed on as they are.
    Unchanged,
    /// UTF-8 whose byte order mark is dropped.
    Utf8Sig,
    /// ISO 8859-1: each byte is a character of its own number.
    Latin1,
    /// UTF-16; `None`: as its byte order mark says, else little-endian.
    Utf16(Option<Order>),
    /// UTF-32; `None`: as its byte order mark says, else little-endian.
    Utf32(Option<Order>),
    /// Any other, by the table of that name; none of them has a newline byte inside a character.
    Other(&'static Table),
}

/// Which byte of a unit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The least significant.
    Little,
    /// The most significant.
    Big,
}

impl Encoding {
    /// By the name that Python has for it, or that the web has; `None` if there is no such encoding.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Encoding> {
        let name = name.trim().to_ascii_lowercase().replace(['_', ' '], "-");
        let order = |rest: &str| match rest.trim_start_matches('-') {
            "" => Some(None),
            "le" => Some(Some(Order::Little)),
            "be" => Some(Some(Order::Big)),
            _ => None,
        };
        if let Some(rest) = name.strip_prefix("utf-16").or_else(|| name.strip_prefix("utf16")) {
            return order(rest).map(Encoding::Utf16);
        }
        if let Some(rest) = name.strip_prefix("utf-32").or_else(|| name.strip_prefix("utf32")) {
            return order(rest).map(Encoding::Utf32);
        }
        let compact: String = name.chars().filter(|c| *c != '-').collect();
        match compact.as_str() {
            "auto" | "utf8" | "u8" | "utf" | "cp65001" | "ascii" | "usascii" | "646" => {
                return Some(Encoding::Unchanged);
            }
            "utf8sig" => return Some(Encoding::Utf8Sig),
            "latin1" | "latin" | "l1" | "iso88591" | "8859" | "cp819" => return Some(Encoding::Latin1),
            _ => {}
        }
        let label = if let Some(number) = compact.strip_prefix("cp125").filter(|rest| rest.len() == 1) {
            format!("windows-125{number}")
        } else if let Some(number) = compact.strip_prefix("iso8859").filter(|rest| !rest.is_empty()) {
            format!("iso-8859-{number}")
        } else {
            match compact.as_str() {
                "cp932" | "sjis" | "shiftjis" => "shift_jis".to_owned(),
                "cp936" | "gb2312" => "gbk".to_owned(),
                "cp949" | "euckr" => "euc-kr".to_owned(),
                "cp950" => "big5".to_owned(),
                "cp866" => "ibm866".to_owned(),
                "eucjp" => "euc-jp".to_owned(),
                _ => name,
            }
        };
        let table = Table::for_label(label.as_bytes())?;
        (table.is_ascii_compatible() || table == encoding_rs::ISO_2022_JP).then_some(Encoding::Other(table))
    }

    /// The encoding of one file, given its first bytes.
    #[must_use]
    pub fn codec(self, start: &[u8]) -> Codec {
        let order = |marked: &[u8], order: Option<Order>| {
            order.unwrap_or(if start.starts_with(marked) { Order::Big } else { Order::Little })
        };
        match self {
            Encoding::Unchanged => Codec::Unchanged,
            Encoding::Utf8Sig => Codec::Utf8Sig,
            Encoding::Latin1 => Codec::Latin1,
            Encoding::Utf16(fixed) => Codec::Utf16(order(&[0xfe, 0xff], fixed)),
            Encoding::Utf32(fixed) => Codec::Utf32(order(&[0, 0, 0xfe, 0xff], fixed)),
            Encoding::Other(table) => Codec::Other(table),
        }
    }
}

/// An [`Encoding`] whose byte order is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Bytes are handed on as they are.
    Unchanged,
    /// UTF-8 with a byte order mark to be dropped.
    Utf8Sig,
    /// ISO 8859-1.
    Latin1,
    /// UTF-16.
    Utf16(Order),
    /// UTF-32.
    Utf32(Order),
    /// Any other.
    Other(&'static Table),
}

impl Codec {
    /// Bytes of the smallest unit; lines begin at multiples of it.
    #[must_use]
    pub fn unit(self) -> usize {
        match self {
            Codec::Utf16(_) => 2,
            Codec::Utf32(_) => 4,
            _ => 1,
        }
    }

    /// Whether the bytes of a line are the text that the filters see.
    #[must_use]
    pub fn is_unchanged(self) -> bool {
        self == Codec::Unchanged
    }

    /// The bytes of a newline.
    #[must_use]
    pub fn newline(self) -> &'static [u8] {
        match self {
            Codec::Utf16(Order::Little) => b"\n\0",
            Codec::Utf16(Order::Big) => b"\0\n",
            Codec::Utf32(Order::Little) => b"\n\0\0\0",
            Codec::Utf32(Order::Big) => b"\0\0\0\n",
            _ => b"\n",
        }
    }

    /// The end, newline included, of the line that `from` (a multiple of the unit) lies in.
    #[must_use]
    pub fn line_end(self, bytes: &[u8], from: usize) -> Option<usize> {
        let (unit, newline) = (self.unit(), self.newline());
        if unit == 1 {
            return memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at + 1);
        }
        memchr::memmem::find_iter(&bytes[from..], newline).find(|at| at % unit == 0).map(|at| from + at + unit)
    }

    /// Appends the text of a line, or of its beginning, in UTF-8.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut push = |c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        match self {
            Codec::Unchanged => out.extend_from_slice(bytes),
            Codec::Utf8Sig => out.extend_from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
            Codec::Latin1 => bytes.iter().for_each(|byte| push(char::from(*byte))),
            Codec::Utf16(order) => {
                let units = bytes.as_chunks::<2>().0.iter().map(|pair| match order {
                    Order::Little => u16::from_le_bytes(*pair),
                    Order::Big => u16::from_be_bytes(*pair),
                });
                char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .filter(|c| *c != BYTE_ORDER_MARK)
                    .for_each(push);
            }
            Codec::Utf32(order) => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|unit| match order {
                    Order::Little => u32::from_le_bytes(*unit),
                    Order::Big => u32::from_be_bytes(*unit),
                })
                .map(|number| char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER))
                .filter(|c| *c != BYTE_ORDER_MARK)
                .for_each(push),
            Codec::Other(table) => {
                out.extend_from_slice(table.decode_without_bom_handling(bytes).0.as_bytes());
            }
        }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_python_and_of_the_web() {
        for (name, text, bytes) in [
            ("auto", "\u{fc}", &[0xc3, 0xbc][..]),
            ("UTF-8", "\u{fc}", &[0xc3, 0xbc]),
            ("ascii", "a", b"a"),
            ("utf_8_sig", "a", &[0xef, 0xbb, 0xbf, b'a']),
            ("latin-1", "\u{fc}\u{80}", &[0xfc, 0x80]),
            ("iso8859_15", "\u{20ac}", &[0xa4]),
            ("cp1252", "\u{20ac}", &[0x80]),
            ("koi8_r", "\u{436}", &[0xd6]),
            ("shift_jis", "\u{30a2}", &[0x83, 0x41]),
            ("gb2312", "\u{4e2d}", &[0xd6, 0xd0]),
            ("utf-16-le", "\u{10a}\u{20ac}", &[0x0a, 0x01, 0xac, 0x20]),
            ("UTF-16", "a", &[0xff, 0xfe, b'a', 0]),
            ("utf_32_be", "a", &[0, 0, 0, b'a']),
        ] {
            let mut out = Vec::new();
            Encoding::from_name(name).unwrap().codec(bytes).decode(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text, "{name}");
        }
        for name in ["", "nonsense", "utf-16-xx", "rot13"] {
            assert_eq!(Encoding::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_newline_byte_inside_a_character_ends_no_line() {
        let little = Encoding::Utf16(None).codec(&[0xff, 0xfe]);
        assert_eq!(little.line_end(&[0x0a, 0x01, 0x00, 0x0a, 0x00, 0x00, 0x0a, 0x00], 0), Some(8));
        let big = Encoding::Utf16(None).codec(&[0xfe, 0xff]);
        assert_eq!(big.line_end(&[0x01, 0x00, 0x0a, 0x01, 0x00, 0x0a], 0), Some(6));
    }
}
