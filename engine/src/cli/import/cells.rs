//! What one cell says: an id, an amount, a number, flags. A cell that could be meant in two ways is
//! refused with the reason. Pure.

use walengine_net::model::{Amount, TransferFlags};
use walengine_net::names;

use super::near;
use crate::business_time::business_micros;

const FLAGS: [(&str, TransferFlags); 7] = [
    ("linked", TransferFlags::LINKED),
    ("pending", TransferFlags::PENDING),
    ("post_pending", TransferFlags::POST_PENDING),
    ("void_pending", TransferFlags::VOID_PENDING),
    ("balancing_debit", TransferFlags::BALANCING_DEBIT),
    ("balancing_credit", TransferFlags::BALANCING_CREDIT),
    ("booked", TransferFlags::BOOKED),
];

/// What programs write for a value that is not there. Rows with it would become one.
const NOTHING: [&str; 20] = [
    "nan",
    "-nan",
    "null",
    "none",
    "nil",
    "undefined",
    "n/a",
    "<na>",
    "nat",
    "inf",
    "+inf",
    "-inf",
    "infinity",
    "-infinity",
    "(null)",
    "\\n",
    "true",
    "false",
    "[object object]",
    "(none)",
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Digits that a spreadsheet keeps of a number; it writes zeros for the others.
const SPREADSHEET_DIGITS: usize = 15;
/// From this length on, zeros after those are no chance.
const ROUNDED_DIGITS_MIN: usize = SPREADSHEET_DIGITS + 5;

/// How amounts are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Decimal places; `None`: whole minor units.
    pub places: Option<u8>,
    /// A comma and not a point stands before them.
    pub has_comma: bool,
}

/// Flags that can't be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadFlags {
    pub why: String,
    /// Whether `linked` may be meant, so that the row may belong to the next.
    pub may_be_linked: bool,
}

/// A cell for a message: readable and short.
pub fn shown(text: &[u8]) -> String {
    const CHARS: usize = 60;
    let text = String::from_utf8_lossy(text);
    let is_long = text.chars().count() > CHARS;
    let start: String = text.chars().take(CHARS).collect();
    format!("{start:?}{}", if is_long { "…" } else { "" })
}

/// Text of a header for a message: without what moves a terminal's cursor, and not endless.
pub fn shown_text(text: &str) -> String {
    const CHARS: usize = 400;
    text.chars().filter(|one| !one.is_control()).take(CHARS).collect()
}

/// A whole number without sign.
pub fn whole<T: TryFrom<u128>>(column: &str, text: &[u8]) -> Result<T, String> {
    let bad = || format!("{column} is {}, not a whole number in range", shown(text));
    let number = digits(text, 0).ok_or_else(bad)?;
    T::try_from(number).map_err(|_| bad())
}

/// Decimal digits after those of `number`; `None` if there are none, or others, or too many.
fn digits(text: &[u8], number: u128) -> Option<u128> {
    if text.is_empty() {
        return None;
    }
    if text.len() <= 18 && number == 0 {
        let mut small = 0u64;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            small = small * 10 + u64::from(digit);
        }
        return Some(u128::from(small));
    }
    text.iter().try_fold(number, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    })
}

/// An amount in minor units, exactly.
pub fn amount(text: &[u8], scale: Scale) -> Result<Amount, String> {
    let bad = |why: String| format!("amount is {}, {why}", shown(text));
    let point = if scale.has_comma { b',' } else { b'.' };
    let Some(places) = scale.places else {
        return digits(text, 0).map(Amount).ok_or_else(|| {
            let has_point = text.iter().any(|byte| matches!(byte, b'.' | b','));
            bad(if has_point {
                "not a whole number of minor units; if amounts have decimals, say how many with \
                 --scale"
                    .into()
            } else {
                "not a whole number in range".into()
            })
        });
    };
    let at = text.iter().position(|&byte| byte == point);
    let (whole, decimals) = at.map_or((text, &[][..]), |at| (&text[..at], &text[at + 1..]));
    let has_decimals = at.is_some();
    if decimals.len() > usize::from(places) {
        let all_digits = decimals.iter().all(u8::is_ascii_digit);
        return Err(bad(if all_digits {
            format!("with more than the {places} decimals of --scale")
        } else {
            not_decimal(scale)
        }));
    }
    let read = || {
        let mut number = digits(whole, 0)?;
        if has_decimals {
            number = match number {
                0 => digits(decimals, 0)?,
                _ => digits(decimals, number)?,
            };
        }
        let missing = u32::from(places) - decimals.len() as u32;
        number.checked_mul(10u128.checked_pow(missing)?)
    };
    read().map(Amount).ok_or_else(|| bad(not_decimal(scale)))
}

/// A time of business in microseconds since 1970.
pub fn time(column: &str, text: &[u8]) -> Result<i64, String> {
    let time = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned());
    let micros = time.and_then(business_micros);
    micros.map_err(|why| format!("{column} is {}, {why}", shown(text)))
}

fn not_decimal(scale: Scale) -> String {
    if scale.has_comma {
        "not a number in range with a comma before its decimals, and with no other mark".into()
    } else {
        "not a number in range with a point before its decimals, and with no other mark \
         (--decimal-comma takes a comma)"
            .into()
    }
}

/// Flags by name, joined by `|`.
pub fn flags(text: &[u8]) -> Result<TransferFlags, BadFlags> {
    let mut flags = TransferFlags::default();
    if text.is_empty() {
        return Ok(flags);
    }
    let mut bad = None;
    for name in text.split(|&byte| byte == b'|') {
        let name = name.trim_ascii();
        if let Some((_, flag)) = FLAGS.iter().find(|(known, _)| known.as_bytes() == name) {
            flags = flags.with(*flag);
            continue;
        }
        let lower = String::from_utf8_lossy(name).to_lowercase();
        let nearest = FLAGS.iter().min_by_key(|(known, _)| near::distance(known, &lower));
        let is_other = nearest.is_some_and(|(known, flag)| {
            *flag != TransferFlags::LINKED && near::distance(known, &lower) <= 3
        });
        bad = Some((shown(name), bad.is_some_and(|(_, may)| may) || !is_other));
    }
    let Some((name, may_be_linked)) = bad else { return Ok(flags) };
    let all = FLAGS.map(|(known, _)| known).join(", ");
    Err(BadFlags {
        why: format!("flag {name} is not one of {all} (joined by |)"),
        may_be_linked: may_be_linked || flags.contains(TransferFlags::LINKED),
    })
}

/// Text of an id, trimmed.
///
/// # Errors
/// Text that is no id but what a program has left of one. Several would become the same.
pub fn id<'a>(column: &str, text: &'a [u8]) -> Result<&'a str, String> {
    let Ok(id) = std::str::from_utf8(text) else {
        let what = crate::cli::csv_file::records::NOT_UTF_8;
        return Err(format!("{column} is {}, which {what}", shown(text)));
    };
    let id = id.trim();
    if id.is_empty() {
        return Err(format!("{column} is empty"));
    }
    match complaint(id) {
        None => Ok(id),
        Some(why) => Err(format!("{column} is {}: {why}", shown(text))),
    }
}

fn complaint(id: &str) -> Option<&'static str> {
    if names::decorates_uuid(id) {
        return Some(names::DECORATED_UUID);
    }
    let bytes = id.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        let is_rounded = bytes.len() >= ROUNDED_DIGITS_MIN
            && bytes[SPREADSHEET_DIGITS..].iter().all(|&digit| digit == b'0');
        return is_rounded.then_some(
            "a spreadsheet has rounded this number to 15 digits; export the ids as text",
        );
    }
    if bytes.iter().any(|byte| !(b' '..=b'~').contains(byte)) {
        if id.chars().any(char::is_control) {
            return Some("an id has no line ends, tabs or zero bytes in it");
        }
        if id.contains('\u{FFFD}') {
            return Some("characters were lost (\u{FFFD}) when its encoding was converted");
        }
        if id.chars().any(is_invisible) {
            return Some("it has invisible characters, so that it only looks like another id");
        }
        return None;
    }
    match bytes[0] {
        b'#' => error_value(id).then_some("this is a spreadsheet's error value, not an id"),
        b'=' => Some("this is a spreadsheet's formula, not an id"),
        b'0'..=b'9' | b'+' | b'-' | b'.' | b',' => number(id).or_else(|| short_date(id)),
        b'E' if id.strip_prefix("Err:").is_some_and(is_digits) => {
            Some("this is a spreadsheet's error value, not an id")
        }
        _ => None,
    }
    .or_else(|| {
        let is_nothing = bytes.len() <= 15
            && (id == "NA" || NOTHING.iter().any(|nothing| id.eq_ignore_ascii_case(nothing)));
        is_nothing.then_some("this stands for a value that is missing, not for an id")
    })
    .or_else(|| short_date(id))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_invisible(one: char) -> bool {
    matches!(one, '\u{AD}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// `#REF!`, `#NAME?`, `#N/A`, `####`, in any language.
fn error_value(id: &str) -> bool {
    let rest = &id[1..];
    let is_hashes = rest.bytes().all(|byte| byte == b'#') && !rest.is_empty();
    let is_word = rest.len() >= 2 && rest.as_bytes()[0].is_ascii_uppercase();
    let is_marked = rest.ends_with(['!', '?']) || matches!(rest, "N/A" | "NV" | "ND" | "N/D");
    is_hashes || (is_word && (is_marked || rest == "GETTING_DATA"))
}

/// A number that is written as no id is.
fn number(id: &str) -> Option<&'static str> {
    let unsigned = id.strip_prefix(['+', '-']).unwrap_or(id);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, decimals) = match mantissa.split_once(['.', ',']) {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (mantissa, None),
    };
    if !is_digits(whole) {
        return None;
    }
    if let Some(exponent) = exponent {
        let power = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let has_sign = power.len() < exponent.len();
        let is_number = is_digits(power)
            && decimals.is_none_or(|digits| digits.is_empty() || is_digits(digits));
        // 12e5 may be an id of hexadecimal digits; 1e15 is how programs write a large number.
        let is_short = whole.len() == 1 && power.len() <= 3;
        return (is_number && (has_sign || decimals.is_some() || is_short)).then_some(
            "a spreadsheet or program has shortened this number, and its digits are lost; export \
             the ids as text",
        );
    }
    if decimals == Some("0") {
        return Some("a program has made a decimal number of an id; export the ids as text");
    }
    let groups: Vec<&str> = unsigned.split(',').collect();
    let is_grouped = groups.len() > 1
        && groups[0].len() <= 3
        && groups[1..].iter().all(|group| group.len() == 3 && is_digits(group));
    is_grouped.then_some(
        "this number has thousands separators, so that it is not the id without them; export the \
         ids as text",
    )
}

/// `1-Mar`, `Mar-01`, `1-Mar-26`: what a spreadsheet makes of ids such as MAR1 and 3-1.
fn short_date(id: &str) -> Option<&'static str> {
    if id.len() > 11 || !id.contains('-') {
        return None;
    }
    let parts: Vec<&str> = id.split('-').collect();
    let is_month = |part: &str| MONTHS.iter().any(|month| part.eq_ignore_ascii_case(month));
    let is_date = match parts[..] {
        [a, b] => {
            (is_digits(a) && a.len() <= 2 && is_month(b))
                || (is_month(a) && is_digits(b) && b.len() == 2)
        }
        [day, month, year] => {
            is_digits(day) && day.len() <= 2 && is_month(month) && is_digits(year)
        }
        _ => false,
    };
    is_date.then_some("a spreadsheet has made a date of this id; export the ids as text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_program_has_broken_are_refused_with_the_reason() {
        for broken in [
            "4.21E+14",
            "4,21E+14",
            "1.23457E+15",
            "1e15",
            "1E+15",
            "1.0E10",
            "-1.5e-7",
            "42.0",
            "4,210,000",
            "#REF!",
            "#N/A",
            "#NAME?",
            "#VALUE!",
            "#DIV/0!",
            "#BEZUG!",
            "#NV",
            "####",
            "Err:502",
            "NaN",
            "nan",
            "NULL",
            "null",
            "None",
            "N/A",
            "NA",
            "undefined",
            "inf",
            "=A1",
            "1-Mar",
            "Mar-01",
            "01-Mar-2026",
            "TRUE",
            "a\nb",
            "a\0",
            "a\u{200B}b",
            "\u{FEFF}1",
            "Ji\u{FFFD}\u{ED}",
            "12345678901234500000",
            "\\N",
            "{0190f3a2-0000-7abc-8def-000000000001}",
            "urn:uuid:0190f3a2-0000-7abc-8def-000000000001",
        ] {
            assert!(id("id", broken.as_bytes()).is_err(), "{broken:?}");
        }
        assert!(id("id", b"  ").unwrap_err().contains("empty"));
        assert!(id("id", b"J\xFCrgen").unwrap_err().contains("Latin-1"));
    }

    #[test]
    fn ids_that_people_use_are_taken() {
        for fine in [
            "1",
            "42",
            "007",
            "0190f3a2-0000-7abc-8def-000000000001",
            "alice",
            "Jiří Novák",
            "bank:cash",
            "221.100",
            "12e5",
            "4e123456",
            "#1042",
            "INV-2026-03",
            "2026-01-31",
            "-1",
            "a+b@c",
            "@bob",
            "N",
            "nano",
            "O'Brien",
            "10.100.200",
            "1-2",
            "May",
            "123456789012345000",
            "340282366920938463463374607431768211454",
            "Mar",
            "1E",
            "E1",
            "日本",
        ] {
            assert_eq!(id("id", format!(" {fine} ").as_bytes()).as_deref(), Ok(fine));
        }
    }

    #[test]
    fn amounts_without_a_scale_are_whole_numbers_without_any_mark() {
        let read = |text: &str| amount(text.as_bytes(), Scale::default());
        assert_eq!(read("0012"), Ok(Amount(12)));
        assert_eq!(read(&u128::MAX.to_string()), Ok(Amount(u128::MAX)));
        for bad in [
            "1.5",
            "1,5",
            "-1",
            "+1",
            "",
            "1e3",
            "1 000",
            "1_000",
            "0x1",
            "١",
            "340282366920938463463374607431768211456",
        ] {
            assert!(read(bad).unwrap_err().starts_with("amount is "), "{bad}");
        }
        assert!(read("1.5").unwrap_err().contains("--scale"));
    }

    #[test]
    fn decimals_are_taken_exactly_and_more_places_are_refused() {
        let with = |places, has_comma, text: &str| {
            amount(text.as_bytes(), Scale { places: Some(places), has_comma })
        };
        let max = "3402823669209384634633746074317682114.55";
        for (text, minor) in [("12.34", 1234), ("12", 1200), ("12.3", 1230), ("0.07", 7), ("0", 0)]
        {
            assert_eq!(with(2, false, text), Ok(Amount(minor)), "{text}");
            assert_eq!(with(2, true, &text.replace('.', ",")), Ok(Amount(minor)), "{text}");
        }
        assert_eq!(with(2, false, max), Ok(Amount(u128::MAX)));
        assert_eq!(with(0, false, "12"), Ok(Amount(12)));
        assert_eq!(with(18, false, "1.000000000000000001"), Ok(Amount(1_000_000_000_000_000_001)));
        for bad in [
            "12.345",
            "12.340",
            "12.",
            ".5",
            "1,203.50",
            "1,203",
            "-1.00",
            "1.2.3",
            "1e2",
            "",
            "3402823669209384634633746074317682114.56",
            " 1",
            "1 .5",
        ] {
            assert!(with(2, false, bad).is_err(), "{bad}");
        }
        assert!(with(0, false, "12.0").is_err());
        assert!(with(2, true, "1.203,50").is_err() && with(2, true, "12.34").is_err());
    }

    #[test]
    fn flags_are_whole_names_and_what_may_mean_linked_is_told() {
        let both = TransferFlags::LINKED.with(TransferFlags::PENDING);
        assert_eq!(flags(b"linked | pending"), Ok(both));
        for (text, may_be_linked) in [
            ("Linked", true),
            ("link", true),
            ("pendng", false),
            ("Pending", false),
            ("linked|pendng", true),
            ("pending|", true),
            ("#REF!", true),
            ("2", true),
            ("linked;pending", true),
            ("balancing_dept", false),
        ] {
            assert_eq!(flags(text.as_bytes()).unwrap_err().may_be_linked, may_be_linked, "{text}");
        }
    }
}
