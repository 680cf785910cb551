#!/usr/bin/env python3
"""Writes src/filter/unicode.rs: which characters are words and digits and which are the same but for their
case, by the Unicode version of the Python that runs this (3.11: Unicode 14). Usage: python3 contrib/unicode-tables.py > src/filter/unicode.rs"""
import re
import unicodedata


def ranges(test):
    out, first, last = [], None, None
    for code in range(0x80, 0x110000):
        if 0xD800 <= code <= 0xDFFF or not test(chr(code)):
            continue
        if last is not None and (code == last + 1 or (last == 0xD7FF and code == 0xE000)):
            last = code
            continue
        if first is not None:
            out.append((first, last))
        first = last = code
    out.append((first, last))
    return out


def same_but_for_case():
    """All pairs of different characters of which one, taken as a pattern, matches the other."""
    texts = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    cased = "".join(c for c in texts if c.lower() != c or c.upper() != c)
    for c in cased:
        for other in re.findall(re.escape(c), cased, re.IGNORECASE):
            if other != c:
                yield ord(c), ord(other)


def table(name, doc, pairs):
    print(f"/// {doc}")
    print(f"pub const {name}: &[(char, char)] = &[")
    line = "   "
    for first, last in pairs:
        item = f" ('\\u{{{first:x}}}', '\\u{{{last:x}}}'),"
        if len(line) + len(item) > 118:
            print(line)
            line = "   "
        line += item
    print(line)
    print("];")


print(f"//! Words and digits beyond ASCII, and the cases of letters: Unicode {unicodedata.unidata_version}.")
print("//!")
print("//! Made by `contrib/unicode-tables.py`; do not edit.")
print()
table("WORD", "Letters and numbers (`\\w` without the ASCII ones): sorted, disjoint, inclusive.", ranges(str.isalnum))
print()
table("DIGIT", "Decimal digits (`\\d` without the ASCII ones): sorted, disjoint, inclusive.", ranges(str.isdecimal))
print()
table("CASES", "Each character with each other one that is the same but for its case: sorted.", same_but_for_case())
