//! A strict model of what an import may post, as plain as can be: RFC 4180 character by character,
//! one rule after the other. It shares nothing with the import but the way from text to ids.

use std::collections::HashSet;

use walengine_net::model::{Amount, Book, Code, EventId, LedgerId, Transfer, TransferFlags};
use walengine_net::names::{account_id, event_id};

use super::Outcome;
use super::files::{BROKEN_FLAGS, FOREIGN, Made, OPTIONAL, REQUIRED};

type Line = (u64, Vec<Vec<u8>>);

/// What may be posted of a file; `None` if nothing may be.
pub fn post(made: &Made) -> Option<Outcome> {
    let text = made.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&made.bytes);
    let is_wide = text.iter().take(2).any(|byte| *byte == 0 || *byte >= 0xFE);
    if is_wide {
        return None;
    }
    let delimiter = delimiter(text);
    let mut lines = lines(text, delimiter)?;
    if lines.is_empty() {
        return None;
    }
    let header: Vec<String> = lines
        .remove(0)
        .1
        .into_iter()
        .map(|name| String::from_utf8(name).ok().map(|name| name.trim().to_owned()))
        .collect::<Option<_>>()?;
    header_is_right(&header, made)?;
    if lines.iter().any(|(_, cells)| cells.len() != header.len()) {
        return None;
    }
    let rows = lines.iter().map(|(line, cells)| {
        let cell = |name: &str| -> Vec<u8> {
            let name =
                if name == "amount" && !made.wanted.given.is_empty() { "Betrag" } else { name };
            let place = header.iter().position(|known| known == name);
            place.map_or(Vec::new(), |place| cells[place].trim_ascii().to_vec())
        };
        (*line, transfer(&cell, made), event_of(&cell("id")), is_linked(&cell("flags")))
    });
    Some(in_chains(&rows.collect::<Vec<_>>()))
}

fn delimiter(text: &[u8]) -> u8 {
    let text: Vec<u8> = text.iter().copied().skip_while(u8::is_ascii_whitespace).collect();
    let mut is_quoted = false;
    let mut counts = [0; 3];
    for byte in text {
        is_quoted ^= byte == b'"';
        if byte == b'\n' && !is_quoted {
            break;
        }
        for (count, delimiter) in counts.iter_mut().zip(b",;\t") {
            *count += i32::from(byte == *delimiter && !is_quoted);
        }
    }
    let most = *counts.iter().max().unwrap();
    b",;\t"[counts.iter().position(|count| *count == most).unwrap()]
}

/// Lines with their cells, without empty lines; `None` if the text is not exactly RFC 4180.
fn lines(text: &[u8], delimiter: u8) -> Option<Vec<Line>> {
    let (mut lines, mut at, mut line) = (Vec::new(), 0, 1);
    while at < text.len() {
        let (first, begin) = (line, at);
        let mut cells = Vec::new();
        loop {
            let mut cell = Vec::new();
            if text.get(at) == Some(&b'"') {
                at += 1;
                loop {
                    match (*text.get(at)?, text.get(at + 1)) {
                        (b'"', Some(b'"')) => {
                            cell.push(b'"');
                            at += 2;
                        }
                        (b'"', _) => break,
                        (byte, _) => {
                            line += u64::from(byte == b'\n');
                            cell.push(byte);
                            at += 1;
                        }
                    }
                }
                at += 1;
            } else {
                while !matches!(text.get(at)?, b'\n' | b'\r' | b'"') && text[at] != delimiter {
                    cell.push(text[at]);
                    at += 1;
                }
            }
            cells.push(cell);
            match (text.get(at)?, text.get(at + 1)) {
                (b'\n', _) => at += 1,
                (b'\r', Some(b'\n')) => at += 2,
                (byte, _) if *byte == delimiter => {
                    at += 1;
                    continue;
                }
                _ => return None,
            }
            break;
        }
        line += 1;
        if !matches!(text[begin], b'\n' | b'\r') {
            lines.push((first, cells));
        }
    }
    Some(lines)
}

fn header_is_right(header: &[String], made: &Made) -> Option<()> {
    let is_given = !made.wanted.given.is_empty();
    let name_of = |name: &'static str| if name == "amount" && is_given { "Betrag" } else { name };
    let all = ["user_data_128", "user_data_64", "user_data_32"];
    let known: Vec<&str> = REQUIRED.into_iter().chain(OPTIONAL).chain(all).map(name_of).collect();
    let count = |name: &str| header.iter().filter(|one| *one == name).count();
    let is_right = REQUIRED.into_iter().all(|name| count(name_of(name)) == 1)
        && known.iter().all(|name| count(name) <= 1)
        && header.iter().all(|name| {
            let is_foreign = FOREIGN.contains(&name.as_str()) || (made.wanted.ignores && far(name));
            known.contains(&name.as_str()) || (made.wanted.ignores && is_foreign)
        });
    is_right.then_some(())
}

/// A column that a ruined byte has made, and that is like no column.
fn far(name: &str) -> bool {
    !name.eq_ignore_ascii_case("verdict")
        && name != "amount"
        && !crate::cli::import::columns::COLUMNS
            .iter()
            .any(|known| crate::cli::import::near::is_nearly(name, known))
}

fn id(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let is_hidden = |one: char| one.is_control() || "\u{AD}\u{200B}\u{FFFD}\u{FEFF}".contains(one);
    let is_text = !text.is_empty() && !text.chars().any(is_hidden) && !is_broken(text);
    is_text.then(|| text.to_owned())
}

/// What spreadsheets and programs make of ids, as far as the files have it.
fn is_broken(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|one| one.is_ascii_digit());
    if ["nan", "null", "none"].contains(&lower.as_str()) || text.starts_with('=') {
        return true;
    }
    if let Some(rest) = text.strip_prefix('#') {
        let is_word = rest.starts_with(|one: char| one.is_ascii_uppercase()) && rest.len() > 1;
        let is_error = is_word && (rest.ends_with(['!', '?']) || rest == "N/A");
        return is_error || (!rest.is_empty() && rest.chars().all(|one| one == '#'));
    }
    if text.strip_prefix("Err:").is_some_and(is_digits) {
        return true;
    }
    if let Some((day, month)) = lower.split_once('-')
        && is_digits(day)
        && day.len() < 3
        && month == "mar"
    {
        return true;
    }
    if is_digits(text) {
        return false;
    }
    let groups: Vec<&str> = text.trim_start_matches(['+', '-']).split(',').collect();
    let is_group = |group: &&str| group.len() == 3 && is_digits(group);
    if groups.len() > 1
        && is_digits(groups[0])
        && groups[0].len() < 4
        && groups[1..].iter().all(is_group)
    {
        return true;
    }
    let point = lower.replacen(',', ".", 1);
    if !text.contains(|one: char| one.is_ascii_digit()) || point.parse::<f64>().is_err() {
        return false;
    }
    match point.split_once('e') {
        Some((_, exponent)) if exponent.starts_with(['+', '-']) => is_digit_first(&point),
        Some((mantissa, _)) if mantissa.contains('.') => is_digit_first(&point),
        Some((mantissa, exponent)) => {
            mantissa.trim_start_matches(['+', '-']).len() == 1 && exponent.len() <= 3
        }
        None => point.split_once('.').is_some_and(|(whole, decimals)| {
            decimals == "0" && !whole.trim_start_matches(['+', '-']).is_empty()
        }),
    }
}

fn is_digit_first(number: &str) -> bool {
    number.trim_start_matches(['+', '-']).starts_with(|one: char| one.is_ascii_digit())
}

fn event_of(text: &[u8]) -> Option<EventId> {
    id(text).map(|text| event_id(&text))
}

fn digits(text: &str) -> Option<u128> {
    let all = !text.is_empty() && text.chars().all(|one| one.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

fn amount(text: &str, made: &Made) -> Option<u128> {
    let Some(places) = made.wanted.scale.places else { return digits(text) };
    let mark = if made.wanted.scale.has_comma { ',' } else { '.' };
    let (whole, decimals) = match text.split_once(mark) {
        Some((whole, decimals)) => (whole, decimals),
        None => (text, "0"),
    };
    let has_mark = text.contains(mark);
    if has_mark && decimals.len() > usize::from(places) {
        return None;
    }
    digits(whole)?;
    digits(decimals)?;
    let decimals = if has_mark { decimals } else { "" };
    format!("{whole}{decimals:0<width$}", width = usize::from(places)).parse().ok()
}

/// Whether a row may belong to the next.
fn is_linked(flags: &[u8]) -> bool {
    let text = String::from_utf8_lossy(flags);
    if let Some((_, may)) = BROKEN_FLAGS.iter().find(|(known, _)| *known == text) {
        return *may;
    }
    flags_of(flags).map_or_else(
        || crate::cli::import::cells::flags(flags).unwrap_err().may_be_linked,
        |flags| flags.contains(TransferFlags::LINKED),
    )
}

fn flags_of(text: &[u8]) -> Option<TransferFlags> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() {
        return Some(TransferFlags::default());
    }
    text.split('|').try_fold(TransferFlags::default(), |flags, name| {
        Some(flags.with(match name.trim_ascii() {
            "linked" => TransferFlags::LINKED,
            "pending" => TransferFlags::PENDING,
            "post_pending" => TransferFlags::POST_PENDING,
            "void_pending" => TransferFlags::VOID_PENDING,
            _ => return None,
        }))
    })
}

fn transfer(cell: &dyn Fn(&str) -> Vec<u8>, made: &Made) -> Option<Transfer> {
    let text = |name: &str| String::from_utf8(cell(name)).ok();
    let account = |name: &str| Some(account_id(Book(0), &id(&cell(name))?));
    let pending = cell("pending_id");
    let timeout = text("timeout_seconds")?;
    Some(Transfer {
        id: event_of(&cell("id"))?,
        debit_account_id: account("debit_account")?,
        credit_account_id: account("credit_account")?,
        amount: Amount(amount(&text("amount")?, made)?),
        ledger: LedgerId(digits(&text("ledger")?)?.try_into().ok()?),
        code: Code(digits(&text("code")?)?.try_into().ok()?),
        pending_id: if pending.is_empty() { EventId(0) } else { event_of(&pending)? },
        timeout_seconds: if timeout.is_empty() { 0 } else { digits(&timeout)?.try_into().ok()? },
        flags: flags_of(&cell("flags"))?,
        ..Transfer::default()
    })
}

type Row = (u64, Option<Transfer>, Option<EventId>, bool);

/// A chain is posted whole or not at all, and nothing is posted or voided that is not reserved.
fn in_chains(rows: &[Row]) -> Outcome {
    let mut outcome = Outcome { sent: Vec::new(), held: Vec::new() };
    let mut held = HashSet::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let length = rest.iter().take_while(|row| row.3).count() + 1;
        let is_open = length > rest.len();
        let (chain, more) = rest.split_at(length.min(rest.len()));
        rest = more;
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        let is_whole = !is_open
            && length <= 8190
            && chain.iter().all(|(_, transfer, _, _)| {
                transfer.as_ref().is_some_and(|transfer| {
                    !(transfer.flags.intersects(ends) && held.contains(&transfer.pending_id))
                })
            });
        for (line, transfer, id, _) in chain {
            match transfer {
                Some(transfer) if is_whole => outcome.sent.push((*line, transfer.to_bytes())),
                _ => {
                    held.extend(*id);
                    outcome.held.push(*line);
                }
            }
        }
    }
    outcome
}
