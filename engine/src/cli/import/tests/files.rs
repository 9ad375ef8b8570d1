//! Made-up files, and what breaks them.

use crate::cli::import::cells::Scale;
use crate::cli::import::columns::Wanted;
use crate::sample::chance::Chance;

/// A file, and how the user says that it is to be read.
#[derive(Debug)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub wanted: Wanted,
}

pub const REQUIRED: [&str; 6] =
    ["id", "debit_account", "credit_account", "amount", "ledger", "code"];
pub const OPTIONAL: [&str; 3] = ["pending_id", "timeout_seconds", "flags"];
/// Columns that an import may be told to pass over.
pub const FOREIGN: [&str; 3] = ["memo", "iban", "Buchungstag"];
/// Columns that it may not.
const WRONG: [&str; 8] =
    ["Flags", "flag", "timeout", "Amount", "pendng_id", "verdict", "amount", " ID"];
/// Ids that are none.
pub const BROKEN_IDS: [&str; 16] = [
    "4.21E+14",
    "1e15",
    "#REF!",
    "#N/A",
    "NaN",
    "null",
    "None",
    "",
    "42.0",
    "=A1+1",
    "1-Mar",
    "4,210,000",
    "Err:502",
    "####",
    "a\u{200B}",
    "\u{FFFD}x",
];
pub const BROKEN_AMOUNTS: [&str; 14] = [
    "",
    "-5",
    "+5",
    "1e3",
    "1 000",
    "0x10",
    "five",
    "1.",
    ".5",
    "1.234567",
    "1,203",
    "1.203,5",
    "340282366920938463463374607431768211456",
    "1.2.3",
];
/// Flags that are none, and whether `linked` may be meant.
pub const BROKEN_FLAGS: [(&str, bool); 7] = [
    ("Linked", true),
    ("link", true),
    ("linked|pendng", true),
    ("pendng", false),
    ("Pending", false),
    ("#REF!", true),
    ("7", true),
];

/// Something with the file itself, in its last bytes or between its rows.
const RUINS: u64 = 16;

pub fn make(chance: &mut Chance) -> Made {
    let delimiter = *[",", ",", ",", ";", "\t"].get(chance.place(5)).unwrap_or(&",");
    let line_end = if chance.is(200) { "\r\n" } else { "\n" };
    let scale = Scale {
        places: chance.is(300).then(|| chance.below(4) as u8),
        has_comma: chance.is(300) && delimiter != ",",
    };
    let mut wanted = Wanted { ignores: chance.is(300), scale, ..Wanted::default() };
    let mut header: Vec<String> = REQUIRED.map(str::to_owned).to_vec();
    header.extend(OPTIONAL.iter().filter(|_| chance.is(700)).map(|name| (*name).to_owned()));
    if chance.is(150) {
        header.push(FOREIGN[chance.place(FOREIGN.len())].to_owned());
    }
    if chance.is(60) {
        header.push(WRONG[chance.place(WRONG.len())].to_owned());
    }
    if chance.is(20) {
        header.remove(chance.place(6));
    }
    for at in (1..header.len()).rev() {
        if chance.is(100) {
            header.swap(at, chance.place(at));
        }
    }
    if chance.is(100) {
        wanted.given.push((3, "Betrag".into()));
        if let Some(amount) = header.iter_mut().find(|name| *name == "amount")
            && chance.is(900)
        {
            "Betrag".clone_into(amount);
        }
    }
    let mut bytes = Vec::new();
    if chance.is(50) {
        bytes.extend_from_slice(b"\xEF\xBB\xBF");
    }
    bytes.extend_from_slice(header.join(delimiter).as_bytes());
    bytes.extend_from_slice(line_end.as_bytes());
    let is_long = chance.below(4_000) == 0;
    let rows = if is_long { 7_000 + chance.place(1_300) } else { chance.place(14) };
    let mut chain_left = 0;
    for row in 0..rows {
        if is_long && chain_left == 0 && chance.is(2) {
            chain_left = [1_100, 1_500, 8_188, 8_190, 8_191][chance.place(5)];
        } else if chain_left == 0 && chance.is(200) {
            chain_left = 1 + chance.place(4);
        }
        let is_linked = chain_left > 1 || (chain_left == 1 && chance.is(20) && !is_long);
        chain_left = chain_left.saturating_sub(1);
        let faults = if is_long { 0 } else { 60 };
        let cells: Vec<Vec<u8>> = header
            .iter()
            .map(|name| cell(chance, name, row as u64, is_linked, faults, scale))
            .collect();
        write_row(chance, &mut bytes, cells, delimiter, faults > 0);
        bytes.extend_from_slice(line_end.as_bytes());
        if chance.is(10) {
            bytes.extend_from_slice(line_end.as_bytes());
        }
    }
    if chance.is(250) {
        ruin(chance, &mut bytes);
    }
    Made { bytes, wanted }
}

fn cell(
    chance: &mut Chance,
    name: &str,
    row: u64,
    is_linked: bool,
    faults: u64,
    scale: Scale,
) -> Vec<u8> {
    let is_faulty = chance.below(1_000) < faults / 3;
    let text = match name {
        "id" | "pending_id" | "debit_account" | "credit_account" if is_faulty => {
            if chance.is(100) {
                return b"J\xFCrgen".to_vec();
            }
            BROKEN_IDS[chance.place(BROKEN_IDS.len())].to_owned()
        }
        "id" if chance.is(20) => "5".into(),
        "id" => (row + 5).to_string(),
        "pending_id" if chance.is(300) => (5 + chance.below(row + 1)).to_string(),
        "pending_id" | "timeout_seconds" => String::new(),
        "debit_account" | "credit_account" => {
            let names = ["alice", "bob", "221", "bank:cash", "Jiří Novák", "O'Brien"];
            names[chance.place(names.len())].into()
        }
        "amount" | "Betrag" if is_faulty => {
            BROKEN_AMOUNTS[chance.place(BROKEN_AMOUNTS.len())].to_owned()
        }
        "amount" | "Betrag" => match scale.places {
            Some(places) if places > 0 && chance.is(500) => {
                let mark = if scale.has_comma { ',' } else { '.' };
                format!("{}{mark}{}", chance.below(1_000), chance.below(10))
            }
            _ => chance.below(100_000).to_string(),
        },
        "ledger" | "code" if is_faulty => {
            ["", "-1", "+1", "1.0", "4294967296", "x"][chance.place(6)].into()
        }
        "ledger" | "code" => "1".into(),
        "flags" if is_faulty => BROKEN_FLAGS[chance.place(BROKEN_FLAGS.len())].0.into(),
        "flags" => flags(chance, is_linked),
        _ => {
            ["", "x", "rent, and more", "said \"no\"", "=1+1", "two\nlines"][chance.place(6)].into()
        }
    };
    text.into_bytes()
}

fn flags(chance: &mut Chance, is_linked: bool) -> String {
    let kind = match chance.below(10) {
        0 | 1 => "pending",
        2 => "post_pending",
        3 => "void_pending",
        _ => "",
    };
    match (is_linked, kind) {
        (true, "") => "linked".into(),
        (true, kind) if chance.is(500) => format!("{kind}|linked"),
        (true, kind) => format!("linked | {kind}"),
        (false, kind) => kind.into(),
    }
}

fn write_row(
    chance: &mut Chance,
    bytes: &mut Vec<u8>,
    mut cells: Vec<Vec<u8>>,
    delimiter: &str,
    has_faults: bool,
) {
    if has_faults && chance.is(8) {
        cells.push(b"1".to_vec());
    }
    if has_faults && chance.is(8) {
        cells.pop();
    }
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            bytes.extend_from_slice(delimiter.as_bytes());
        }
        let special =
            |byte: &u8| matches!(byte, b'"' | b'\n' | b'\r') || [*byte] == delimiter.as_bytes();
        // Sometimes what needs quotes has none.
        let needs = cell.iter().any(special) && !(has_faults && chance.is(30));
        if needs || chance.is(30) {
            bytes.push(b'"');
            for byte in cell {
                bytes.push(*byte);
                if *byte == b'"' {
                    bytes.push(b'"');
                }
            }
            bytes.push(b'"');
        } else if chance.is(30) {
            bytes.push(b' ');
            bytes.extend_from_slice(cell);
            bytes.push(b' ');
        } else {
            bytes.extend_from_slice(cell);
        }
    }
}

fn ruin(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let at = chance.place(bytes.len());
    match chance.below(RUINS) {
        0 | 1 => bytes.truncate(at),
        2 => {
            bytes.pop();
        }
        3 => bytes.insert(at, b'"'),
        4 => bytes.insert(at, b'\r'),
        5 => bytes.insert(at, 0),
        6 => bytes.insert(at, b','),
        7 => bytes.insert(at, b';'),
        8 => bytes.insert(at, b'\n'),
        9 => bytes[at] ^= 1 << chance.below(8),
        10 => {
            bytes.remove(at);
        }
        11 => bytes.insert(at, 0xFC),
        12 => {
            let utf_16 = |byte: &u8| [*byte, 0];
            *bytes = [0xFF, 0xFE].into_iter().chain(bytes.iter().flat_map(utf_16)).collect();
        }
        13 => bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b'\r'),
        14 => bytes.extend_from_slice(b"\"open\n"),
        _ => {
            // Two files put together.
            let copy = bytes.clone();
            bytes.extend_from_slice(&copy);
        }
    }
}
