//! Colours in tables for people: on a terminal only, and not if `NO_COLOR` is set (no-color.org).

use std::io::{self, IsTerminal};

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Whether standard output takes colours.
pub fn is_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    wanted(
        io::stdout().is_terminal(),
        set("NO_COLOR").is_some(),
        set("TERM").is_some_and(|term| term != "dumb"),
    )
}

fn wanted(is_terminal: bool, is_refused: bool, is_able: bool) -> bool {
    is_terminal && !is_refused && is_able
}

/// The colour of a cell, if it has any: of what is as it should be, and of what is not.
fn colour(column: &str, cell: &str) -> Option<&'static str> {
    match (column, cell) {
        (_, "") | ("verdict", "in_doubt") => None,
        ("verdict", "ok") | ("health", "alive") | ("ready", "yes") => Some(GREEN),
        ("verdict" | "health" | "ready" | "trouble" | "reason", _) => Some(RED),
        _ => None,
    }
}

/// A cell that has been made printable, with the colour that it has in its column.
pub fn painted(column: &str, cell: &str) -> String {
    match colour(column, cell) {
        Some(colour) => format!("{colour}{cell}{PLAIN}"),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(wanted(true, false, true));
        for (is_terminal, is_refused, is_able) in
            [(false, false, true), (true, true, true), (true, false, false)]
        {
            assert!(!wanted(is_terminal, is_refused, is_able));
        }
    }

    #[test]
    fn what_is_wrong_is_red() {
        assert_eq!(painted("verdict", "ok"), "\u{1b}[32mok\u{1b}[0m");
        assert_eq!(painted("verdict", "exceeds_credits"), "\u{1b}[31mexceeds_credits\u{1b}[0m");
        assert_eq!(painted("amount", "5"), "5");
        assert_eq!(painted("trouble", ""), "");
    }
}
